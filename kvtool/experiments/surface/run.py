"""`kvtool surface`: paired tasks answered by the model and its image values together.

The values' evidence for each option is added to the model's log-probability of it, with a weight
that is chosen on one half of the pictures and scored on the other, both ways round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtool.asking.answering import Answer, Answerer
from kvtool.asking.paired.answers import score_options
from kvtool.asking.paired.checks import check_questions, default_kinds
from kvtool.asking.paired.tasks import EVIDENT, PairedTask, paired_task, serving_run
from kvtool.asking.wording import Wording
from kvtool.bounds import checked
from kvtool.datasets.identity import dataset_of
from kvtool.engine.crew import Devices, crewed
from kvtool.errors import UsageError
from kvtool.experiments.surface.work import SurfaceWork
from kvtool.layers import LayerChoice
from kvtool.progress import Progress, called
from kvtool.result import Result, result_key
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.select import Target, select_store
from kvtool.store.shares import chunk_name, sharing
from kvtool.tasks.blocks import BASELINES, plan_blocks, torch_device
from kvtool.tasks.scoring import keep_result
from kvtool.tasks.truth import sizes_of
from kvtool.types import Kind, Precision

MAX_NEW_TOKENS = 16

COMMAND = "surface"


@checked
@crewed()
def surface(
    target: Target,
    task: str,
    *,
    run: str | None = None,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    heads: Sequence[int] | None = None,
    blocks: int = 1,
    n: int | None = None,
    style: str = "plain",
    after_question: str = "",
    question_dtype: Precision | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    model: str | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    devices: Devices = None,  # noqa: ARG001  the crew's
    engine: str = "local",  # noqa: ARG001  the crew's
    cpus_per_worker: int = 1,  # noqa: ARG001  the crew's
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
) -> Result:
    """Answer questions by the model and its image values together.

    Rows by `condition`: model (the option of the highest log-probability after the prompt), written
    (the answer that it writes, as in paired), value, fused (log-probabilities and the values'
    evidence, added), either (model or values right: what no sum can exceed but by luck), permuted
    (fused with the values of other questions), and fused on each half with its block and weight.

    Answers and log-probabilities are kept in the store, so that a second call loads no model.
    Raises UsageError for unknown tasks and runs that cannot serve, saying what to extract; and for
    too few pictures to halve; ModelError where an answer is missing and the run's model is not
    there; BusyError, or UnfinishedError, while other processes hold questions.

    Args:
        target: the run, or the store that holds it.
        task: semantic-correspondence, art-style, visual-similarity or image-choice, as in paired.
        run: the name of a run, where the target is a store of several.
        kinds: the kinds among whose blocks is chosen, by default value.
        layers: the layers, by default all.
        heads: the heads, by default all.
        blocks: the number of blocks whose evidence is added.
        n: the most questions, by default 200 of semantic-correspondence, or all of BLINK's.
        style: whose wording the questions have, as in knockout.
        after_question: a text put after every question, on a line of its own.
        question_dtype: the precision in which questions are answered, by default the run's.
        max_new_tokens: the most tokens of a written answer.
        model: the place of the run's model, if its name does not say it.
        data: the place of the run's data set, if it moved.
        device: the device of model and scores.
        devices: in place of one device several, a worker each, who share the questions.
        engine: "local" for processes of this machine, "ray" for tasks of a Ray cluster.
        cpus_per_worker: the CPUs that Ray sets aside for a worker.
        seed: the random seed of questions, halves, intervals and permutations.
        fresh: whether everything is asked and scored again.
        wait_s: how long to wait for questions that other processes ask.
        progress: called with a number and a note for questions and blocks, and once with their
            number; True shows a bar.
    """
    paired = paired_task(task, COMMAND)
    _check(paired, blocks, n, max_new_tokens)
    wording = Wording(style, after_question)
    store, run_name = select_store(target, run)
    source = serving_run(store, paired, run_name, COMMAND)
    # Baselines are no part of what the decoder knows at the image.
    value_kinds = [kind for kind in default_kinds(source) if kind not in BASELINES]
    plan = plan_blocks(source, kinds or value_kinds, layers, heads)
    dataset = dataset_of(source, data)
    questions = paired.make(dataset, sizes_of(source), paired.subset, n, seed)
    check_questions(questions, source, paired, "max", COMMAND)
    _check_halves(paired, len(questions.questions))
    questions = replace(
        questions, questions=[wording.of(question) for question in questions.questions]
    )
    refs = {ref.id: ref for ref in dataset.images()}
    work = SurfaceWork(store, source, paired, questions, plan, refs)
    if blocks > work.n_blocks:
        raise UsageError(f"surface: blocks: expected at most {work.n_blocks}, found {blocks}")
    config = work.config(ALGORITHMS["surface"]) | {
        "command": "surface",
        "n_blocks": blocks,
        "n": n,
        "seed": seed,
        **wording.settings(),
        "question_dtype": question_dtype,
        "max_new_tokens": max_new_tokens,
        **questions.settings,
    }
    stored = None if fresh else store.kept(result_key(config), Result.from_json)
    if stored is not None:
        return stored
    request = SurfaceRequest(
        model, device, max_new_tokens, fresh, wait_s, called(progress), question_dtype
    )
    return _ask_and_score(work, config, request)


@dataclass(frozen=True)
class SurfaceRequest:
    """How the questions are asked, as in surface."""

    model: str | None
    device: str
    max_new_tokens: int
    fresh: bool
    wait_s: float
    progress: Progress
    dtype: Precision | None


def _ask_and_score(work: SurfaceWork, config: dict[str, Any], request: SurfaceRequest) -> Result:
    """Ask the model, then add what the values say; both are shared with other processes."""
    key = result_key(config)
    store = work.store
    folder = work.draw(None)
    with sharing(request.wait_s) as share:
        answerer = Answerer(
            store,
            work.run,
            request.model,
            request.device,
            request.max_new_tokens,
            request.fresh,
            share=share,
            dtype=request.dtype,
        )
        # Each question is answered in words and option by option.
        request.progress(0, "", 2 * len(work.paired.questions) + work.n_blocks)
        answers: list[Answer] = work.ask(answerer, folder, request.progress)
        prompts = work.prompts(answerer, folder)
        option_scores = score_options(answerer, prompts, request.progress)

        def stored() -> Result | None:
            """Return the stored result."""
            return None if request.fresh else store.kept(key, Result.from_json)

        def score() -> Result:
            """Score all conditions and store the result."""
            device = torch_device(request.device)
            result = work.result(answers, option_scores, config, device, request.progress)
            return keep_result(store, key, result)

        name = chunk_name("surface", work.task.name, key)
        return share.result(work.run, name, stored, score)


def _check(task: PairedTask, blocks: int, n: int | None, max_new_tokens: int) -> None:
    """Check the options before anything is read. Raises UsageError."""
    if task.name not in EVIDENT:
        raise UsageError(
            f"surface {task.name}: expected a task whose values say how much speaks for each "
            f"option, found one that a trained probe answers; take {', '.join(EVIDENT)}"
        )
    if blocks < 1 or max_new_tokens < 1 or (n is not None and n < 1):
        raise UsageError("surface: expected blocks, n and max_new_tokens of 1 or more")


def _check_halves(task: PairedTask, n_questions: int) -> None:
    """Check that each half can have a question of its own. Raises UsageError."""
    if n_questions < 2:
        raise UsageError(
            f"surface {task.name}: expected two questions or more, found one; raise "
            "--limit or extract more pictures"
        )

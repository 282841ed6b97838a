"""`kvtool paired`: the same questions put to the model and to its image values.

See the paper, section 4.2 and table 5. The values answer block by block; the best block's answers
are set beside the model's: both right, the values alone, the model alone, neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtool.asking.answer_files import check_answers
from kvtool.asking.answering import Answerer
from kvtool.asking.paired.checks import check_questions, default_kinds
from kvtool.asking.paired.tasks import PairedTask, paired_task, serving_run
from kvtool.asking.wording import Wording
from kvtool.bounds import checked
from kvtool.datasets.identity import dataset_of
from kvtool.engine.crew import Devices, crewed
from kvtool.errors import UsageError
from kvtool.experiments.paired.work import PairedWork
from kvtool.layers import LayerChoice
from kvtool.outputs import check_folder
from kvtool.progress import Progress, called
from kvtool.result import Result, result_key
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.select import Target, select_store
from kvtool.store.shares import chunk_name, sharing
from kvtool.tasks.base import Select
from kvtool.tasks.blocks import plan_blocks, torch_device
from kvtool.tasks.scoring import keep_result
from kvtool.tasks.truth import sizes_of
from kvtool.types import Kind, Precision

MAX_NEW_TOKENS = 16
READINGS = {"choice": "value", "pck": "value_pck"}
"""What makes the cells of semantic correspondence: the values' choice of four points, or PCK."""


@checked
@crewed("answers", "pictures")
def paired(
    target: Target,
    task: str,
    *,
    run: str | None = None,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    heads: Sequence[int] | None = None,
    select: str = "max",
    n: int | None = None,
    pictures: str | Path | None = None,
    answers: str | Path | None = None,
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
    **options: Any,
) -> Result:
    """Compare what the model says and what its image values know, question by question.

    No question is asked twice, so that an interrupted call goes on. Raises UsageError for unknown
    tasks and options and for runs that cannot serve, saying what to extract; ModelError where an
    answer is missing and the run's model is not there; where other processes still hold questions
    or the scores, UnfinishedError if this process did some, else BusyError.

    Args:
        target: the run, or the store that holds it.
        task: semantic-correspondence (from SPair-71k's pairs), or art-style, visual-similarity,
            relative-depth (BLINK's val split), image-choice and two-choice (questions.jsonl of
            own:PATH).
        run: the name of a run, where the target is a store of several.
        kinds: the kinds as in kvtool.probe; by default value, with projected and vision.
        layers: the layers, by default all.
        heads: the heads, by default all.
        select: how the best block is chosen, as in probe.
        n: the most questions, by default 200 of semantic-correspondence, or all of BLINK's.
        pictures: a new folder for the marked pictures, by default one in the store.
        answers: a file for a JSON line a question.
        style: whose wording the questions have, as in knockout.
        after_question: a text put after every question, on a line of its own.
        question_dtype: the precision in which questions are answered, by default the run's.
        max_new_tokens: the most tokens of an answer.
        model: the place of the run's model, if its name does not say it.
        data: the place of the run's data set, if it moved.
        device: the device of model and scores.
        devices: in place of one device several, a worker each, who share the questions.
        engine: "local" for processes of this machine, "ray" for tasks of a Ray cluster.
        cpus_per_worker: the CPUs that Ray sets aside for a worker.
        seed: the random seed of generated questions, folds, halves and intervals.
        fresh: whether everything is asked and scored again.
        wait_s: how long to wait for questions that other processes ask, and for their scores, once
            all others are done.
        progress: called with a number and a note for questions and blocks, and once with their
            number; True shows a bar.
        options: of the task alone: reading ("choice" or "pck", which of its two scores makes the
            cells of semantic-correspondence); folds and c (of relative-depth's linear probe).
    """
    # All that can be wrong with the options is said before anything is read.
    paired = paired_task(task)
    wording = Wording(style, after_question)
    _check(paired, select, n, max_new_tokens, options, pictures)
    check_answers(answers)
    if pictures is not None:
        check_folder(pictures, "--pictures")
    store, run_name = select_store(target, run)
    source = serving_run(store, paired, run_name)
    plan = plan_blocks(source, kinds or default_kinds(source), layers, heads)
    dataset = dataset_of(source, data)
    task_options = {name: value for name, value in options.items() if name != "reading"}
    # Questions are drawn before they are worded: wording changes none of them.
    questions = paired.make(dataset, sizes_of(source), paired.subset, n, seed, **task_options)
    check_questions(questions, source, paired, select)
    questions = replace(
        questions, questions=[wording.of(question) for question in questions.questions]
    )
    refs = {ref.id: ref for ref in dataset.images()}
    work = PairedWork(store, source, paired, questions, plan, refs)
    # Marked pictures are drawn once, whatever is asked about them.
    folder = work.draw(None if pictures is None else Path(pictures))
    config = work.config(ALGORITHMS["paired"]) | {
        "metric": READINGS[options.get("reading", "choice")],
        "select": select,
        "n": n,
        "seed": seed,
        **wording.settings(),
        "question_dtype": question_dtype,
        "max_new_tokens": max_new_tokens,
        **questions.settings,
    }
    request = PairedRequest(
        model, device, max_new_tokens, fresh, wait_s, called(progress), question_dtype
    )
    result = None if fresh else store.kept(result_key(config), Result.from_json)
    if result is None:
        result = _ask_and_score(work, config, folder, request)
    if answers is not None:
        work.write(result, Path(answers))
    return result


@dataclass(frozen=True)
class PairedRequest:
    """How the questions are asked, as in paired."""

    model: str | None
    device: str
    max_new_tokens: int
    fresh: bool
    wait_s: float
    progress: Progress
    dtype: Precision | None


def _ask_and_score(
    work: PairedWork, config: dict[str, Any], folder: Path | None, request: PairedRequest
) -> Result:
    """Ask the model, then score the values; both are shared with other processes."""
    key = result_key(config)
    store = work.store
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
        request.progress(0, "", len(work.paired.questions) + work.n_blocks)
        answers = work.ask(answerer, folder, request.progress)

        def stored() -> Result | None:
            """Return the stored result."""
            return None if request.fresh else store.kept(key, Result.from_json)

        def score() -> Result:
            """Score the values and store the result."""
            device = torch_device(request.device)
            return keep_result(store, key, work.result(answers, config, device, request.progress))

        name = chunk_name("scores", work.task.name, key)
        return share.result(work.run, name, stored, score)


def _check(
    task: PairedTask,
    select: str,
    n: int | None,
    max_new_tokens: int,
    options: Mapping[str, Any],
    pictures: str | Path | None,
) -> None:
    """Check the options before anything is read. Raises UsageError."""
    if select not in Select:
        raise UsageError(f"select: expected {' or '.join(Select)}, found {select!r}")
    if max_new_tokens < 1 or (n is not None and n < 1):
        raise UsageError("paired: expected n and max_new_tokens of 1 or more")
    names = [*options, *(["pictures"] if pictures is not None else [])]
    if idle := [name for name in names if name not in task.options]:
        options_text = ", ".join(task.options) or "none of its own"
        raise UsageError(
            f"paired {task.name}: no option {', '.join(idle)} here; it takes: {options_text}"
        )
    if options.get("reading", "choice") not in READINGS:
        raise UsageError(f"reading: expected {' or '.join(READINGS)}, found {options['reading']!r}")
    if options.get("folds", 2) < 2 or options.get("c", 1.0) <= 0:
        raise UsageError("paired: expected folds of 2 or more and c above 0")

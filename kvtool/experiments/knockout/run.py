"""`kvtool knockout`: a benchmark's questions with text blocked from the image in chosen heads.

See the paper, section 3.2. Image tokens never see the question, so that one stored prefill serves
every question under every condition; see kvtool.models.knockout for what is blocked,
kvtool.asking.heads for the conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kvtool.asking.answer_files import check_answers
from kvtool.asking.answering import Answer, Answerer
from kvtool.asking.head_questions import Asking, HeadPlan, prepare
from kvtool.asking.head_sources import ALL, Heads, HeadSource, travelling_heads
from kvtool.asking.head_work import HeadWork
from kvtool.asking.heads import make_conditions
from kvtool.asking.wording import Wording
from kvtool.bounds import checked
from kvtool.engine.crew import Devices, crewed
from kvtool.errors import UsageError
from kvtool.experiments.knockout.each import ask_alone, single_heads
from kvtool.experiments.knockout.each_beside import with_others
from kvtool.progress import Progress, called
from kvtool.result import Result, result_key
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.select import Target, select_store
from kvtool.store.shares import sharing
from kvtool.types import Precision

MAX_NEW_TOKENS = 16
SINGLE_HEADS = {"each": True, "algorithm": ALGORITHMS["knockout-each"], "conditions": []}
"""Settings of every head alone, in place of those of conditions."""


@checked
@crewed("answers", "official", ready=travelling_heads)
def knockout(
    target: Target,
    benchmark: str,
    heads: Heads | None = None,
    *,
    each_head: bool = False,
    threshold: float | None = None,
    layers: str | Sequence[int] | None = None,
    controls: Sequence[str] = (),
    draws: int = 1,
    style: str = "plain",
    after_question: str = "",
    question_dtype: Precision | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    limit: int | None = None,
    answers: str | Path | None = None,
    official: str | Path | None = None,
    run: str | None = None,
    model: str | None = None,
    device: str = "auto",
    devices: Devices = None,  # noqa: ARG001  the crew's
    engine: str = "local",  # noqa: ARG001  the crew's
    cpus_per_worker: int = 1,  # noqa: ARG001  the crew's
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
) -> Result:
    """Score a benchmark under no knockout, the chosen heads, their early, middle and late parts,
    and controls; or, with `each_head`, under every head alone.

    Questions whose image is not there, and those without an answer under some condition, are left
    out of all and counted in n_skipped. Raises UsageError for heads out of range or none,
    ModelError where the run's model is not there, KvtoolError where no question remains; where
    other processes still hold images, UnfinishedError if this process asked about some, else
    BusyError.

    Args:
        target: the store, or the run whose model, prefix and view are used. Images that no such run
            holds are extracted first.
        benchmark: pope:PATH, mme:PATH[@all], scenes, scenes@mme, or any data set with questions
            about one image each, e.g. own:PATH.
        heads: "agnostic" (input-agnostic keys of the run, by their variance), "lowest:N" (the N
            keys of the lowest variance), "all", heads by layer and number such as "3:1,4:0", KV
            heads of all layers such as "0-3,5", a file of JSON lines, "-" for standard input, or
            rows with layer and kv_head, or (layer, kv_head) pairs.
        each_head: whether every head is blocked alone, all in one pass over the questions, in place
            of `heads`: a row for each head with the change of accuracy and of the answer's margin.
            Only questions with options have margins.
        threshold: of "agnostic": the variance below which keys are input-agnostic, by default the
            valley between the two modes of the run's variances.
        layers: early, middle, late, last:N or numbers; blocks only there.
        controls: "dependent" and "random": as many heads in the same layers.
        draws: how often each control is drawn.
        style: whose wording the questions have: "plain" (the benchmark's own), "lmms-eval" or
            "vlmevalkit".
        after_question: a text put after every question, on a line of its own.
        question_dtype: the precision in which questions are answered from the stored caches, by
            default the run's; "float32" rounds the least.
        max_new_tokens: the most tokens of an answer.
        limit: the number of images that are asked about, by default all.
        answers: a file for the answers, see answer_files.
        official: a folder for the answers as the benchmark's script reads them.
        run: the name of a run, where the target is a store.
        model: the place of the run's model, if its name does not say it.
        device: the device of the model.
        devices: in place of one device several, a worker each, who share the images.
        engine: "local" for processes of this machine, "ray" for tasks of a Ray cluster.
        cpus_per_worker: the CPUs that Ray sets aside for a worker.
        seed: the random seed of controls and intervals.
        fresh: whether everything is asked and scored again; else an interrupted call goes on.
        wait_s: how long to wait for images that other processes ask about, once all others are
            done.
        progress: called with 1 and a note for each image, and once with their number;
            True shows a bar.
    """
    store, run_name = select_store(target, run, create=model is not None)
    check_answers(answers, official)
    options: dict[str, Any] = {"controls": controls, "answers": answers, "official": official}
    # Options that make no sense with each head alone are told from their defaults.
    options |= {"threshold": threshold is not None, "draws": draws != 1}
    options |= {"max-new-tokens": max_new_tokens != MAX_NEW_TOKENS}
    source = HeadSource.parse(_blocked(heads, each_head, options), threshold)
    make = partial(make_conditions, controls=controls, draws=draws, seed=seed)
    plan = HeadPlan("knockout", source, layers, controls, draws, seed, make)
    asking = Asking(
        store=store,
        model=model,
        device=device,
        max_new_tokens=max_new_tokens,
        limit=limit,
        official=official is not None,
        progress=called(progress),
        wording=Wording(style, after_question),
        dtype=question_dtype,
    )
    work = prepare(benchmark, run_name, plan, asking)
    if each_head:
        work = replace(work, settings=work.settings | SINGLE_HEADS)
    # Files of answers are not kept with a result: where they are wanted, all is asked again.
    key = result_key(work.settings)
    stored = None if fresh or answers or official else store.kept(key, Result.from_json)
    if stored is not None:
        return with_others(stored, store, key)
    with sharing(wait_s) as share:
        answerer = Answerer(
            store, work.run, model, device, max_new_tokens, fresh, share=share, dtype=question_dtype
        )
        if each_head:
            # Each head alone takes margins only: generated answers for every head take too long.
            study = ask_alone(work, answerer, asking.progress)
        else:
            asking.progress(0, "", work.n_images)
            replies = work.ask(answerer, asking.progress)
    files = (answers, official)
    result = single_heads(work, study) if each_head else _scored(work, replies, *files)
    store.keep(key, result.to_json())
    return with_others(result, store, key)


def _scored(
    work: HeadWork,
    replies: Sequence[Sequence[Answer]],
    answers: str | Path | None,
    official: str | Path | None,
) -> Result:
    """Score what was answered under each condition, and write the answers that are asked for."""
    work, conditions = work.answered(replies)
    result = work.result(conditions)
    work.write(conditions, answers, official)
    return result


def _blocked(heads: Heads | None, each_head: bool, options: Mapping[str, Any]) -> Heads:
    """Return the heads to block, of every head alone all. Raises UsageError where there is none,
    and for options that every head alone has no use for.
    """
    if not each_head:
        if heads is None:
            raise UsageError("knockout: expected --heads or --each, found neither")
        return heads
    needless = {"heads": heads is not None} | dict(options)
    if names := [name for name, value in needless.items() if value]:
        raise UsageError(f"--each: expected no --{names[0]} beside it; leave one out")
    return ALL

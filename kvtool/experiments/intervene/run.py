"""`kvtool intervene`: a benchmark's questions with what text does at the image's tokens of chosen
heads changed.

Image tokens never see the question, so that one stored prefill serves every question under every
condition; see kvtool.models.intervention for the methods, kvtool.asking.head_sources for the heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kvtool.asking.answer_files import check_answers
from kvtool.asking.answering import Answerer
from kvtool.asking.head_questions import Asking, HeadPlan, prepare
from kvtool.asking.head_sources import Heads, HeadSource, travelling_heads
from kvtool.asking.head_work import HeadWork
from kvtool.asking.wording import Wording
from kvtool.bounds import checked
from kvtool.engine.crew import Devices, crewed
from kvtool.errors import UsageError
from kvtool.experiments.intervene.conditions import MethodConditions
from kvtool.experiments.intervene.study import InterventionStudy
from kvtool.models.methods import MEAN_METHODS, Method, parse_methods
from kvtool.progress import Progress, called
from kvtool.result import Result, Row, result_key
from kvtool.store.select import Target, select_store
from kvtool.store.shares import sharing
from kvtool.types import Precision

MAX_NEW_TOKENS = 16
SPLIT = "split"


@checked
@crewed("answers", ready=travelling_heads)
def intervene(
    target: Target,
    benchmark: str,
    heads: Heads,
    method: str | Sequence[str],
    *,
    select: str | None = None,
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
    """Score a benchmark as the model is, and with each method at the image's tokens of some heads.

    Rows by `condition`: none; each method, such as scale:0.5, in the heads given; and the same
    method in as many heads of the same layers, such as "scale:0.5 random". Beside the benchmark's
    scores and tests they have the margin of the right option, where questions have options. With
    `select` "split" one condition alone is left, chosen on one half of the pictures among all
    methods in all the heads together and in each of them alone, and scored on the other half.

    Questions whose image is not there, and those without an answer under some condition, are left
    out of all and counted in n_skipped. Raises UsageError for unknown methods, strengths out of
    range, heads out of range or none, and heads of a result that is not kept; ModelError where the
    run's model is not there; KvtoolError where no question remains; BusyError, or UnfinishedError,
    while other processes hold images.

    Args:
        target: the store, or the run whose model, prefix and view are used. Images that no such run
            holds are extracted first.
        benchmark: pope:PATH, mme:PATH[@all], scenes, scenes@mme, or any data set with questions
            about one image each, e.g. blink:PATH, cvbench:PATH or own:PATH.
        heads: all that knockout takes: "agnostic", "lowest:N", "best:TASK[:N]" (of a kept probe),
            "localization[:N]", "sinks[:N]" (of kept results of attend), "all", "3:1,4:0", "0-3,5",
            a file of JSON lines, "-", or rows or pairs.
        method: block; scale:A (attention times A before the softmax); redistribute:P (a share P of
            what the strongest 1 % of image tokens draw goes to the others); mean-key and mean-value
            (the mean of the run's image tokens in place of the token's own); contrast:L (L times by
            how much the answer's logits exceed those with the heads blocked is added to them);
            temperature:T (of the attention within the image). Several strengths: "scale:0,0.5,2";
            several methods: a list.
        select: "split": strength and heads are chosen on one half of the pictures.
        threshold: of "agnostic": the variance below which keys are input-agnostic.
        layers: early, middle, late, last:N or numbers; changes heads only there.
        controls: "dependent" and "random": as many heads in the same layers.
        draws: how often each control is drawn.
        style: whose wording the questions have: "plain", "lmms-eval" or "vlmevalkit".
        after_question: a text put after every question, on a line of its own.
        question_dtype: the precision in which questions are answered, by default the run's.
        max_new_tokens: the most tokens of an answer.
        limit: the number of images that are asked about, by default all.
        answers: a file for the answers, see answer_files.
        run: the name of a run, where the target is a store.
        model: the place of the run's model, if its name does not say it.
        device: the device of the model.
        devices: in place of one device several, a worker each, who share the images.
        engine: "local" for processes of this machine, "ray" for tasks of a Ray cluster.
        cpus_per_worker: the CPUs that Ray sets aside for a worker.
        seed: the random seed of halves, controls and intervals.
        fresh: whether everything is asked and scored again; else an interrupted call goes on.
        wait_s: how long to wait for images that other processes ask about.
        progress: called with 1 and a note for each image, twice, and once with their number; True
            shows a bar.
    """
    store, run_name = select_store(target, run, create=model is not None)
    methods = parse_methods(method)
    # What is wrong with a request is said before images are extracted.
    if select not in (None, SPLIT):
        raise UsageError(f"select: expected {SPLIT} or none, found {select!r}")
    check_answers(answers)
    source = HeadSource.parse(heads, threshold)
    make = MethodConditions(methods, controls, draws, seed, singles=select == SPLIT)
    plan = HeadPlan("intervene", source, layers, controls, draws, seed, make)
    asking = Asking(
        store=store,
        model=model,
        device=device,
        max_new_tokens=max_new_tokens,
        limit=limit,
        official=False,
        progress=called(progress),
        wording=Wording(style, after_question),
        dtype=question_dtype,
    )
    work = prepare(benchmark, run_name, plan, asking)
    # Methods and the way to choose are part of what the result depends on.
    work = replace(work, settings=work.settings | _settings(work, methods, select))
    key = result_key(work.settings)
    stored = None if fresh or answers else store.kept(key, Result.from_json)
    if stored is not None:
        return stored
    with sharing(wait_s) as share:
        answerer = Answerer(
            store, work.run, model, device, max_new_tokens, fresh, share=share, dtype=question_dtype
        )
        study = InterventionStudy(work, answerer, asking.progress)
        result, replied = study.chosen() if select == SPLIT else study.compared()
    replied.work.write(replied.answers, answers, None)
    store.keep(key, result.to_json())
    return result


def _settings(work: HeadWork, methods: Sequence[Method], select: str | None) -> Row:
    """Return the settings of interventions, beside those of all heads."""
    has_means = any(method.name in MEAN_METHODS for method in methods)
    # Means are over all pictures of the run, whatever is asked.
    means = {"means_hash": work.run.images_hash()} if has_means else {}
    labels = [method.label for method in methods]
    return {"command": "intervene", "methods": labels, "select": select, **means}

"""`kvtool correlate`: do models whose values segment better perceive better?

See the paper's figure 3 and appendix A.5. A point is a model: the mean over segmentation tasks of
its best value's score, and its accuracy on questions of perception. All models are scored on the
same images and questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kvtool.asking.answering import Answer
from kvtool.asking.caches import no_answer
from kvtool.asking.choices import BENCHMARKS, score_choices
from kvtool.asking.image_replies import ATTENTION
from kvtool.asking.wording import Wording
from kvtool.bounds import checked
from kvtool.engine.crew import Devices, crewed
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.correlate.coefficients import correlations
from kvtool.experiments.correlate.measures import Common
from kvtool.experiments.correlate.subjects import ModelRuns, check_names, find_subjects
from kvtool.progress import Progress, called, silent
from kvtool.result import MAX_REASONS, Result, Row, result_key, versions
from kvtool.store import Store, hash_json, open_store
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.select import StorePath, open_stores
from kvtool.store.shares import sharing
from kvtool.tasks.base import Select
from kvtool.tasks.by_model import Identity, RunSource, find_runs
from kvtool.tasks.evaluation import options_of
from kvtool.tasks.scoring import keep_result
from kvtool.tasks.sets import SEGMENTATION
from kvtool.types import Precision

MAX_NEW_TOKENS = 16


@checked
@crewed()
def correlate(
    stores: StorePath | Store | Sequence[StorePath | Store],
    *,
    models: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    tasks: Sequence[str] = SEGMENTATION,
    benchmarks: Sequence[str] = BENCHMARKS,
    select: str = "max",
    limit: int | None = None,
    pooled: bool = False,
    style: str = "plain",
    after_question: str = "",
    question_dtype: Precision | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    model: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
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
    """Return a row for each model, and the coefficients of segmentation and accuracy over the
    models of each family.

    Probes and answers are taken from the stores where they were computed before; a model's weights
    are loaded for the first question that is new to its store. Models that lack a run, or have no
    answer to some question, are left out and counted in n_skipped. All coefficients, Pearson's and
    Spearman's, are over n models; of fewer than three there are none, and config["notes"] says so.

    Raises UsageError for unknown names and a model that would count twice, KvtoolError where no
    model or no question remains; where other processes still probe or ask models, UnfinishedError
    if this process did some of it, else BusyError.

    Args:
        stores: their runs without prefix are sorted by model (name, revision, precision, view),
            whatever store they are in.
        models: the names of the models to compare, by default all.
        runs: the names of the runs to use, by default all.
        tasks: those of the four segmentation tasks whose scores are averaged.
        benchmarks: cvbench, blink.
        select: how the best value is chosen, as in probe.
        limit: the most questions of each CV-Bench task and image collection and of each BLINK
            sub-task.
        pooled: whether there are coefficients over the models of all families too.
        style: whose wording the questions have, as in knockout.
        after_question: a text put after every question, on a line of its own.
        question_dtype: the precision in which questions are answered, by default the runs'.
        max_new_tokens: the most tokens of an answer.
        model: the places of models, by their names in the runs.
        data: the places of data sets, by their names in the runs.
        device: the device, as in probe.
        devices: in place of one device several, a worker each, who share the
            models, the layers of probes and the images.
        engine: "local" for processes of this machine, "ray" for tasks of a Ray cluster.
        cpus_per_worker: the CPUs that Ray sets aside for a worker.
        seed: the random seed of probes and intervals.
        fresh: whether everything is probed and asked again.
        wait_s: how long to wait for models that other processes probe and ask, once all others are
            done.
        progress: called with 1 and a note for each question answered, and once with their number;
            True shows a bar.
        options: the tasks' options, as in probe.
    """
    check_names(tasks, benchmarks)
    task_options = _task_options(tasks, options)
    opened = open_stores(stores)
    _check_settings(select, max_new_tokens, limit)
    subjects, sources, incomplete = find_subjects(
        find_runs(opened, runs, "correlate"), models, tasks, benchmarks
    )
    _check_subjects(subjects, incomplete)
    wording = Wording(style, after_question)
    common = Common(subjects, data or {}, limit, wording, question_dtype)
    settings = {
        "select": select,
        "max_new_tokens": max_new_tokens,
        "limit": limit,
        "pooled": pooled,
        **wording.settings(),
        "question_dtype": question_dtype,
        "seed": seed,
        "options": task_options,
    }
    # The key is known before anything is measured: a kept result loads no model.
    config = _config(subjects, sources, common, settings)
    key = result_key([config, incomplete])
    home = open_store(opened[0].path)
    if not fresh and (stored := home.kept(key, Result.from_json)) is not None:
        return stored
    probing = {"select": select, "device": device, "seed": seed, "fresh": fresh}
    request = MeasureRequest(task_options, model or {}, max_new_tokens, probing)
    measured = _measure_all(subjects, common, request, wait_s, called(progress))
    return keep_result(home, key, _result(subjects, measured, common, config, incomplete))


def _check_settings(select: str, max_new_tokens: int, limit: int | None) -> None:
    """Check numbers and names. Raises UsageError."""
    if select not in Select or max_new_tokens < 1 or (limit is not None and limit < 1):
        raise UsageError(
            f"correlate: expected select of {', '.join(Select)}, max_new_tokens and limit of 1 or "
            f"more; found {select}, {max_new_tokens}, {limit}"
        )


def _check_subjects(subjects: Sequence[ModelRuns], incomplete: Sequence[str]) -> None:
    """Check that a model remains. Raises KvtoolError with the first reason."""
    if not subjects:
        reason = f": {incomplete[0]}" if incomplete else ""
        raise KvtoolError(
            f"correlate: expected models with runs of all tasks and benchmarks, found none{reason}"
        )


@dataclass(frozen=True)
class MeasureRequest:
    """What is measured of every model.

    Args:
        task_options: the options of each task.
        paths: the places of models, by their names.
        max_new_tokens: the most tokens of an answer.
        probing: the options of all probes.
    """

    task_options: Mapping[str, Mapping[str, Any]]
    paths: Mapping[str, str]
    max_new_tokens: int
    probing: Mapping[str, Any]


def _measure_all(
    subjects: Sequence[ModelRuns],
    common: Common,
    request: MeasureRequest,
    wait_s: float,
    progress: Progress,
) -> dict[Identity, tuple[Row, list[Answer]]]:
    """Measure every model: its segmentation scores and its answers, shared with other processes."""
    asked_images = {(question.benchmark, question.image) for question in common.questions}
    progress(0, "", len(subjects) * len(asked_images))
    measured: dict[Identity, tuple[Row, list[Answer]]] = {}
    tried: set[Identity] = set()
    with sharing(wait_s) as share:

        def measure(subject: ModelRuns) -> None:
            # A second try reads again what the first one computed: that is no progress.
            """Measure one model; a second try goes on from the first."""
            tell = silent if subject.identity in tried else progress
            tried.add(subject.identity)
            measured[subject.identity] = common.measure(
                subject,
                request.task_options,
                request.paths.get(subject.identity.name),
                request.max_new_tokens,
                share.part,
                tell,
                **request.probing,
            )

        share.each(subjects, measure, "models")
    return measured


def _result(
    subjects: Sequence[ModelRuns],
    measured: Mapping[Identity, tuple[Row, list[Answer]]],
    common: Common,
    config: dict[str, Any],
    incomplete: list[str],
) -> Result:
    """Return the result: a row for each model, the coefficients, and each benchmark's parts."""
    rows = []
    items = []
    for subject in subjects:
        segmented, replies = measured[subject.identity]
        answers = [answer for answer in replies if answer is not None]
        # A model without some answers would be scored on other questions than the rest: it is left
        # out.
        if len(answers) < len(replies):
            first = common.questions[replies.index(None)].question
            incomplete.append(
                f"model {subject.identity.name}: {len(replies) - len(answers)} of {len(replies)} "
                f"questions without an answer, first: {no_answer(first)}"
            )
            continue
        answered, parts = score_choices(common.questions, answers, config["seed"], common.digests)
        labels = subject.labels
        # One row a model: it is the unit of the correlation.
        rows.append(labels | segmented | answered | {"runs": [run.name for run in subject.runs]})
        items += [labels | part for part in parts]
    if not rows:
        raise KvtoolError(f"correlate: expected models that answer, found none: {incomplete[0]}")
    coefficients, notes = correlations(rows, config["pooled"])
    return Result(
        command="correlate",
        task=None,
        metric="accuracy",
        n=len(rows),
        rows=rows + coefficients,
        config=config | {"notes": [*common.notes, *notes]},
        versions=versions(),
        n_skipped=len(incomplete),
        skipped=incomplete[:MAX_REASONS],
        items=items,
    )


def _task_options(tasks: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each task. Raises UsageError for one that none takes."""
    by_task: dict[str, dict[str, Any]] = {}
    for task in tasks:
        by_task[task] = {name: options[name] for name in options.keys() & options_of(task)}
    if idle := options.keys() - set().union(*by_task.values()):
        raise UsageError(f"correlate: none of {', '.join(tasks)} takes {', '.join(sorted(idle))}")
    return by_task


def _config(
    subjects: Sequence[ModelRuns],
    sources: Mapping[str, RunSource],
    common: Common,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return all that the numbers depend on; the result's key is its hash."""
    questions = [[entry.benchmark, asdict(entry.question)] for entry in common.questions]
    algorithms = [ALGORITHMS["correlate"], *(ALGORITHMS[task] for task in common.images)]
    models = []
    for subject in subjects:
        runs = [[run.name, run.config.hash, run.images_hash()] for run in subject.runs]
        models.append({**subject.identity._asdict(), "runs": runs})
    return {
        "algorithm": algorithms,
        "truth_hashes": common.truth_hashes,
        "models": models,
        "tasks": {
            task: {"data": str(sources[task]), "images": len(ids)}
            for task, ids in common.images.items()
        },
        "benchmarks": list(subjects[0].benchmark_runs),
        "questions": len(questions),
        "questions_hash": hash_json(questions),
        "attention": ATTENTION,
        **settings,
    }

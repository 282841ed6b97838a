"""`kvtool correlate`: do models whose values segment better perceive better? (paper, figure 3 and
appendix A.5)

A point is a model: the mean over segmentation tasks of its best value's score, and its accuracy on
questions of perception. All models are scored on the same images and questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan
from typing import Any

import numpy as np

from kvtool.asking.answering import ATTENTION
from kvtool.asking.caches import Progress, silent
from kvtool.asking.choices import BENCHMARKS, score_choices
from kvtool.bounds import checked
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.correlate.measures import Common
from kvtool.experiments.correlate.subjects import (
    SEGMENTATION,
    Identity,
    RunSource,
    Subject,
    check_names,
    find_runs,
    find_subjects,
)
from kvtool.result import Result, Row, result_key, versions
from kvtool.stats.correlation import Correlation, pearson, spearman
from kvtool.store import Store, hash_json, open_store
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.select import StorePath, open_stores
from kvtool.store.shares import sharing
from kvtool.tasks.base import Select
from kvtool.tasks.evaluation import options_of
from kvtool.tasks.scoring import keep_result

FEWEST = 3
"""Two models always lie on a line."""
SAME = 1e-12
"""Scores closer than this differ by rounding alone."""
NAMED = 10
"""How many left-out models are named; all are counted."""
MAX_NEW_TOKENS = 16


@checked
def correlate(
    stores: StorePath | Store | Sequence[StorePath | Store],
    *,
    models: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    tasks: Sequence[str] = SEGMENTATION,
    benchmarks: Sequence[str] = BENCHMARKS,
    select: str = "max",
    limit: int | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    model: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    device: str = "auto",
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """A row a model, and Pearson's and Spearman's coefficients of segmentation and accuracy over
    the models.

    stores: their runs without prefix are sorted by model (name, revision, precision, view),
    whatever store they are in; models, runs: only these names. tasks: of the four segmentation
    tasks, those averaged; benchmarks: cvbench, blink. select, seed, device, fresh and the tasks'
    own options are probe's. limit: questions of each CV-Bench task and image collection and of each
    BLINK sub-task at most. model: where models are now, data: where data sets are now, by their
    names in the runs. Probes and answers are taken from the stores where they were made before; a
    model's weights are loaded for the first question that is new to its store. wait_s: how long to
    wait for models that other processes probe and ask, once all others are done.

    Models that lack a run are left out and counted in n_skipped. All coefficients are over n
    models; of fewer than three there are none, and config["notes"] says so. Raises UsageError for
    unknown names and a model that would count twice, KvtoolError where no model or no question is
    left; where others still probe or ask models, UnfinishedError if this process did some of it,
    else BusyError.
    """
    progress = progress or silent
    check_names(tasks, benchmarks)
    own = _own_options(tasks, options)
    opened = open_stores(stores)
    if select not in Select or max_new_tokens < 1 or (limit is not None and limit < 1):
        raise UsageError(
            f"correlate: expected select of {', '.join(Select)}, max_new_tokens and limit of 1 or "
            f"more; found {select}, {max_new_tokens}, {limit}"
        )
    subjects, sources, lacking = find_subjects(find_runs(opened, runs), models, tasks, benchmarks)
    if not subjects:
        why = f": {lacking[0]}" if lacking else ""
        raise KvtoolError(
            f"correlate: expected models with runs of all tasks and benchmarks, found none{why}"
        )
    common = Common(subjects, data or {}, limit)
    settings = {
        "select": select,
        "max_new_tokens": max_new_tokens,
        "limit": limit,
        "seed": seed,
        "options": own,
    }
    config = _config(subjects, sources, common, settings)
    key = result_key([config, lacking])
    home = open_store(opened[0].path)
    if not fresh and (kept := home.kept(key, Result.from_json)) is not None:
        return kept
    alike = {"select": select, "device": device, "seed": seed, "fresh": fresh}
    progress(
        0, "", len(subjects) * len({(each.benchmark, each.image) for each in common.questions})
    )
    measured: dict[Identity, tuple[Row, list[str]]] = {}
    tried: set[Identity] = set()
    with sharing(wait_s) as share:

        def measure(subject: Subject) -> None:
            tell = (
                silent if subject.identity in tried else progress
            )  # what is read again is no progress
            tried.add(subject.identity)
            place = (model or {}).get(subject.identity.name)
            measured[subject.identity] = common.measure(
                subject, own, place, max_new_tokens, share.part, tell, **alike
            )

        share.each(subjects, measure, "models")
    rows = []
    items = []
    for subject in subjects:
        segmented, answers = measured[subject.identity]
        answered, parts = score_choices(common.questions, answers, seed)
        labels = {"model": subject.identity.name, "revision": subject.identity.revision}
        rows.append(labels | segmented | answered | {"runs": [run.name for run in subject.runs]})
        items += [labels | part for part in parts]
    coefficients, notes = correlations(rows)
    result = Result(
        command="correlate",
        task=None,
        metric="accuracy",
        n=len(subjects),
        rows=rows + coefficients,
        config=config | {"notes": [*common.notes, *notes]},
        versions=versions(),
        n_skipped=len(lacking),
        skipped=lacking[:NAMED],
        items=items,
    )
    keep_result(home, key, result)
    return result


def _own_options(tasks: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each task. Raises UsageError for one that none takes."""
    own = {
        task: {name: options[name] for name in options.keys() & options_of(task)} for task in tasks
    }
    if idle := options.keys() - {name for of in own.values() for name in of}:
        raise UsageError(f"correlate: none of {', '.join(tasks)} takes {', '.join(sorted(idle))}")
    return own


def _config(
    subjects: Sequence[Subject],
    sources: Mapping[str, RunSource],
    common: Common,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """All that the numbers depend on; the cache's key is its hash."""
    questions = [[each.benchmark, asdict(each.question)] for each in common.questions]
    algorithms = [ALGORITHMS["correlate"], *(ALGORITHMS[task] for task in common.images)]
    return {
        "algorithm": algorithms,
        "truth_hashes": common.truth_hashes,
        "models": [
            subject.identity._asdict()
            | {"runs": [[run.name, run.config.hash, run.images_hash()] for run in subject.runs]}
            for subject in subjects
        ],
        "tasks": {
            task: {"data": str(sources[task]), "images": len(ids)}
            for task, ids in common.images.items()
        },
        "benchmarks": list(subjects[0].asked),
        "questions": len(questions),
        "questions_hash": hash_json(questions),
        "attention": ATTENTION,
        **settings,
    }


def correlations(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """A row for each coefficient of the models' rows, and notes on what is not defined; of too few
    models none."""
    n = len(rows)
    if n < FEWEST:
        return [], [
            f"no coefficient: expected {FEWEST} models or more, found {n}; extract more of them"
        ]
    names = ("segmentation", "accuracy")
    x, y = (np.array([row[name] for row in rows], np.float64) for name in names)
    found = {"pearson": pearson(x, y), "spearman": spearman(x, y)}
    same = [name for name, scores in zip(names, (x, y), strict=True) if np.ptp(scores) < SAME]
    notes = [f"no coefficient: {name} is the same for all {n} models" for name in same]
    if not notes and n == FEWEST:
        notes = [f"no interval of a coefficient: expected {FEWEST + 1} models or more, found {n}"]
    elif not notes:
        perfect = [name for name, each in found.items() if isnan(each.low)]
        notes = [
            f"no interval of {name}: all {n} models lie on it, which says nothing of its spread"
            for name in perfect
        ]
    return [_coefficient(name, each) for name, each in found.items()], notes


def _coefficient(name: str, found: Correlation) -> Row:
    value, low, high, p = (None if isnan(number) else number for number in found[:4])
    return {
        "coefficient": name,
        "value": value,
        "value_low": low,
        "value_high": high,
        "p": p,
        "n": found.n,
    }

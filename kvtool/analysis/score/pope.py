"""POPE: answers to yes-or-no questions, scored as POPE's `evaluate.py` does (protocol 7)."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from kvtool.analysis.score.common import FilePath, Progress, need, need_text, read_records, scored, side_by_side
from kvtool.errors import DatasetError, UsageError
from kvtool.metrics.answers import parse_pope, pope_scores, pope_units
from kvtool.metrics.intervals import Array
from kvtool.reports.results import Result, Row, versions

ORDER = ("f1", "accuracy", "precision", "recall", "yes_ratio")


def score_pope(answers: FilePath | Sequence[FilePath], *, seed: int = 0, progress: Progress | None = None) -> Result:
    """accuracy, precision, recall, f1 and yes_ratio of each file, and over all: pooled, and macro_<metric>, the mean
    over the files.

    answers: files of JSON lines or a JSON list with `answer`, free text read as the official script reads it, and
    `label`, yes or no. Without a predicted yes precision and f1 are 0. Raises DatasetError that names file and line.
    """
    paths = [Path(answers)] if isinstance(answers, str | PathLike) else [Path(path) for path in answers]
    if not paths:
        raise UsageError("answers: expected one file or more, found none")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(f"answers: expected each file once, found {', '.join(map(str, paths))}")
    units = []
    for path in paths:
        units.append(_read(path))
        if progress is not None:
            progress(1, path.name)
    return Result(
        command="score",
        task="pope",
        metric="f1",
        n=sum(map(len, units)),
        rows=_rows(paths, units, seed),
        config={"answers": [str(path) for path in paths], "seed": seed},
        versions=versions(),
    )


def _read(path: Path) -> Array:
    """(question, 4): pope_units of a file."""
    said, truth = [], []
    for where, record in read_records(path):
        answer, label = need(record, ("answer", "label"), where)
        if label not in ("yes", "no"):
            raise DatasetError(f"{where}: expected label yes or no, found {label!r}")
        said.append(parse_pope(need_text(answer, "answer", where)) == "yes")
        truth.append(label == "yes")
    return pope_units(np.array(said), np.array(truth))


def _rows(paths: Sequence[Path], units: Sequence[Array], seed: int) -> list[Row]:
    """The summary, in which questions are drawn within their files, and a row for each file."""
    names = [path.name for path in paths]
    labels = names if len(set(names)) == len(names) else [str(path) for path in paths]
    together, of_file = side_by_side(units)
    rows: list[Row] = [{**scored(together, pooled_and_macro, strata=of_file, seed=seed), "n": len(together)}]
    for label, each in zip(labels, units, strict=True):
        rows.append({"file": label, **scored(each, _scores, seed=seed), "n": len(each)})
    return rows


def _scores(sums: Array) -> dict[str, Array]:
    found = pope_scores(sums)
    return {name: found[name] for name in ORDER}


def pooled_and_macro(sums: Array) -> dict[str, Array]:
    """(..., 4 * file) sums of all files; macro_f1 stands beside f1, the two by which results are compared."""
    by_file = sums.reshape(*sums.shape[:-1], -1, 4)
    pooled = _scores(by_file.sum(axis=-2))
    macro = {f"macro_{name}": each.mean(axis=-1) for name, each in _scores(by_file).items()}
    return {"f1": pooled["f1"], "macro_f1": macro["macro_f1"], **pooled, **macro}

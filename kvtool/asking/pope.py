"""POPE: answers to yes-or-no questions, scored as POPE's `evaluate.py` does (protocol 7)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from kvtool.asking.pope_files import AnswerFile, Labeled, LabelFile, labeled_answers, usable
from kvtool.asking.records import (
    FilePath,
    none_left,
    numbered,
    scored,
    side_by_side,
)
from kvtool.errors import DatasetError, UsageError
from kvtool.metrics.answers import pope_scores
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row, versions
from kvtool.stats.bootstrap import Array, Scores

ORDER = ("f1", "accuracy", "precision", "recall", "yes_ratio")


def score_pope(
    answers: FilePath | Sequence[FilePath],
    *,
    labels: FilePath | Sequence[FilePath] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Score accuracy, precision, recall, f1 and yes_ratio of each file, and over all files.

    Over all files the scores are pooled, and macro_<metric> is the mean over the files. Without a
    predicted yes precision and f1 are 0. The official script takes an empty answer for a yes, and
    so does this; each row counts them as n_empty. An answer whose label is neither yes nor no, and
    a file of answers whose file of labels cannot be read, are left out and counted. Raises
    DatasetError that names file and line.

    Args:
        answers: files of JSON lines, or of a JSON list, with `answer` (or LLaVA's `text`), free
            text read as the official script reads it, and `label`, yes or no; "-" is standard
            input.
        labels: files of their own for the labels, as POPE's and LLaVA's scripts have them, one for
            each file of answers; a label belongs to the answer of its `question_id`, or where
            answers have none, to the one at its place.
        seed: the random seed of the intervals.
        progress: called with 1 and the name of each file that is scored.
    """
    paths = _paths(answers)
    label_paths = None if labels is None else _paths(labels)
    _check_paths(paths, label_paths)
    rows, skipped = _score_files(paths, label_paths, seed, progress)
    return _result(rows, paths, label_paths, seed, skipped)


def _score_files(
    paths: Sequence[Path],
    label_paths: Sequence[Path] | None,
    seed: int,
    progress: Progress | None,
) -> tuple[list[Row], list[str]]:
    """Score the files that can be read; a note for each answer or file that is left out."""
    files = []
    skipped = []
    # A file that cannot be read leaves the others to be scored.
    for number, path in enumerate(paths):
        try:
            label_file = None if label_paths is None else LabelFile(label_paths[number])
        except DatasetError as error:
            skipped.append(str(error))
            continue
        labeled, unusable = usable(labeled_answers(path, label_file))
        skipped += unusable
        if not labeled:
            continue
        files.append(AnswerFile(path, labeled))
        if progress is not None:
            progress(1, path.name)
    if not files:
        raise none_left(f"{', '.join(map(str, paths))}: answers with a label", skipped)
    return _rows(files, seed), skipped


def _check_paths(paths: Sequence[Path], label_paths: Sequence[Path] | None) -> None:
    """Check that each file comes once, with a file of labels. Raises UsageError."""
    if not paths:
        raise UsageError("answers: expected one file or more, found none")
    if label_paths is not None and len(label_paths) != len(paths):
        raise UsageError(
            f"labels: expected a file for each of {len(paths)} files of answers, found "
            f"{len(label_paths)}"
        )
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise UsageError(f"answers: expected each file once, found {', '.join(map(str, paths))}")


def _result(
    rows: list[Row],
    paths: Sequence[Path],
    label_paths: Sequence[Path] | None,
    seed: int,
    skipped: Sequence[str],
) -> Result:
    """Return the result of scored files, with a note where answers are empty."""
    n_empty = rows[0]["n_empty"]
    notes = []
    if n_empty:
        notes = [f"{n_empty} answers are empty and count as yes, as the official script reads them"]
    return Result(
        command="score",
        task="pope",
        metric="f1",
        n=rows[0]["n"],
        rows=rows,
        config={
            "answers": [str(path) for path in paths],
            "labels": None if label_paths is None else [str(path) for path in label_paths],
            "seed": seed,
        },
        versions=versions(),
        n_skipped=len(skipped),
        skipped=[*skipped, *notes][:MAX_REASONS],
    )


def _paths(paths: FilePath | Sequence[FilePath]) -> list[Path]:
    """Return one or several paths as a list."""
    return [Path(paths)] if isinstance(paths, str | PathLike) else [Path(path) for path in paths]


def _rows(files: Sequence[AnswerFile], seed: int) -> list[Row]:
    """Return the summary and a row for each file.

    Pictures are drawn with all questions about them, within the first file that asks about them.
    """
    # Files of one name in several folders are told apart by their paths.
    names = [file.path.name for file in files]
    labels = names if len(set(names)) == len(names) else [str(file.path) for file in files]
    # Files are strata: each category keeps its number of pictures in a resample.
    together, strata = side_by_side([file.units for file in files])
    answers = [answer for file in files for answer in file.answers]
    summary = _row(together, pooled_and_macro, answers, seed, strata=strata)
    rows: list[Row] = [summary | {"n_empty": sum(file.n_empty for file in files)}]
    for label, file in zip(labels, files, strict=True):
        row = _row(file.units, _scores, file.answers, seed)
        rows.append({"file": label, **row, "n_empty": file.n_empty})
    return rows


def _row(
    units: Array,
    scores: Scores,
    answers: Sequence[Labeled],
    seed: int,
    strata: Array | None = None,
) -> Row:
    """Return scores with intervals that resample pictures, and the numbers of both."""
    pictures = numbered(answer.picture for answer in answers)
    row = scored(units, scores, strata=strata, clusters=pictures, seed=seed)
    return row | {"n": len(units), "n_pictures": len(set(pictures.tolist()))}


def _scores(sums: Array) -> dict[str, Array]:
    scores = pope_scores(sums)
    return {name: scores[name] for name in ORDER}


def pooled_and_macro(sums: Array) -> dict[str, Array]:
    """Score (..., 4 * file) sums of all files, pooled and as means over the files.

    macro_f1 stands beside f1, the two by which results are compared.
    """
    # Pooled scores weigh questions equally, macro ones files.
    by_file = sums.reshape(*sums.shape[:-1], -1, 4)
    pooled = _scores(by_file.sum(axis=-2))
    macro = {f"macro_{name}": values.mean(axis=-1) for name, values in _scores(by_file).items()}
    return {"f1": pooled["f1"], "macro_f1": macro["macro_f1"], **pooled, **macro}

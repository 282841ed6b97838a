"""POPE: answers to yes-or-no questions, scored as POPE's `evaluate.py` does (protocol 7)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.asking.records import (
    LISTED,
    FilePath,
    need,
    need_text,
    none_left,
    read_records,
    scored,
    side_by_side,
)
from kvtool.errors import DatasetError, UsageError
from kvtool.metrics.answers import parse_pope, pope_scores, pope_units
from kvtool.progress import Progress
from kvtool.result import Result, Row, versions
from kvtool.stats.bootstrap import Array

LABELS = ("yes", "no")
ORDER = ("f1", "accuracy", "precision", "recall", "yes_ratio")


Labeled = tuple[str, str, str]
"""Where an answer stands, the answer, and its label."""


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
    units = []
    n_empty = []
    scored_paths = []
    skipped = []
    for number, path in enumerate(paths):
        try:
            label_file = None if label_paths is None else _Labels(label_paths[number])
        except DatasetError as error:
            skipped.append(str(error))
            continue
        labeled, unusable = _usable(_labeled(path, label_file))
        skipped += unusable
        if not labeled:
            continue
        scored_paths.append(path)
        units.append(_units(labeled))
        n_empty.append(sum(not answer.strip() for _, answer, _ in labeled))
        if progress is not None:
            progress(1, path.name)
    if not units:
        raise none_left(f"{', '.join(map(str, paths))}: answers with a label", skipped)
    return _rows(scored_paths, units, n_empty, seed), skipped


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


def _usable(answers: Sequence[Labeled]) -> tuple[list[Labeled], list[str]]:
    """Return the answers whose label is yes or no, and a note for each of the others."""
    labeled = [entry for entry in answers if entry[2] in LABELS]
    notes = [
        f"{location}: expected label yes or no, found {label}"
        for location, _, label in answers
        if label not in LABELS
    ]
    return labeled, notes


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
        skipped=[*skipped, *notes][:LISTED],
    )


def _paths(paths: FilePath | Sequence[FilePath]) -> list[Path]:
    """Return one or several paths as a list."""
    return [Path(paths)] if isinstance(paths, str | PathLike) else [Path(path) for path in paths]


class _Labels:
    """A file of labels, as it is read. Raises DatasetError where it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = read_records(path)


def _labeled(path: Path, label_file: _Labels | None) -> list[Labeled]:
    """Return the answers of a file, each with its label. Raises DatasetError."""
    records = read_records(path)
    if label_file is None:
        return [_label_beside(location, record) for location, record in records]
    label_path = label_file.path
    labels = label_file.records
    # Labels belong by question_id where every record has one, else in order.
    by_id = {
        str(record["question_id"]): entry
        for entry in labels
        if "question_id" in (record := entry[1])
    }
    if len(by_id) == len(labels) and all("question_id" in record for _, record in records):
        return [_by_id(location, record, by_id, label_path) for location, record in records]
    if len(labels) != len(records):
        raise DatasetError(
            f"{label_path}: expected a label for each of the {len(records)} answers of {path}, "
            f"found {len(labels)}"
        )
    return [_pair(*answer, *label) for answer, label in zip(records, labels, strict=True)]


def _label_beside(location: str, record: dict[str, Any]) -> Labeled:
    """Return an answer whose label stands in the same record."""
    (answer,) = need(record, ("answer",), location)
    return location, need_text(answer, "answer", location), _label(record)


def _by_id(
    location: str,
    record: dict[str, Any],
    labels: Mapping[str, tuple[str, dict[str, Any]]],
    label_path: Path,
) -> Labeled:
    """Return an answer and the label of its question_id."""
    number = str(record["question_id"])
    if number not in labels:
        raise DatasetError(f"{location}: expected a question_id of {label_path}, found {number!r}")
    return _pair(location, record, *labels[number])


def _pair(
    location: str, record: dict[str, Any], label_location: str, label: dict[str, Any]
) -> Labeled:
    """Return an answer and the label that belongs to it.

    Where both name their question, it must be the same one. Raises DatasetError.
    """
    prompt = record.get("question", record.get("prompt"))
    question = label.get("text")
    if isinstance(prompt, str) and isinstance(question, str) and question.strip() not in prompt:
        raise DatasetError(
            f"{location}: expected the answer to {question!r} of {label_location}, found that to "
            f"{prompt!r}; answers and labels must be in one order"
        )
    field = "answer" if "answer" in record else "text"
    (answer,) = need(record, (field,), location)
    truth = _label(label)
    return (
        location if truth in LABELS else label_location,
        need_text(answer, field, location),
        truth,
    )


def _label(record: dict[str, Any]) -> str:
    """Return yes or no; of a record with neither what it has instead, for the line that names
    it."""
    if "label" not in record:
        return f"no label among {', '.join(record)}"[:100]
    return record["label"] if record["label"] in LABELS else repr(record["label"])[:100]


def _units(labeled: Sequence[Labeled]) -> Array:
    """Return the pope_units of a file, (question, 4)."""
    answered_yes = [parse_pope(answer) == "yes" for _, answer, _ in labeled]
    return pope_units(np.array(answered_yes), np.array([label == "yes" for _, _, label in labeled]))


def _rows(
    paths: Sequence[Path], units: Sequence[Array], n_empty: Sequence[int], seed: int
) -> list[Row]:
    """Return the summary, in which questions are drawn within their files, and a row for each
    file."""
    names = [path.name for path in paths]
    labels = names if len(set(names)) == len(names) else [str(path) for path in paths]
    together, strata = side_by_side(units)
    rows: list[Row] = [
        {**scored(together, pooled_and_macro, strata=strata, seed=seed), "n": len(together)}
    ]
    rows[0]["n_empty"] = sum(n_empty)
    for label, file_units, empty in zip(labels, units, n_empty, strict=True):
        rows.append(
            {
                "file": label,
                **scored(file_units, _scores, seed=seed),
                "n": len(file_units),
                "n_empty": empty,
            }
        )
    return rows


def _scores(sums: Array) -> dict[str, Array]:
    scores = pope_scores(sums)
    return {name: scores[name] for name in ORDER}


def pooled_and_macro(sums: Array) -> dict[str, Array]:
    """Score (..., 4 * file) sums of all files, pooled and as means over the files.

    macro_f1 stands beside f1, the two by which results are compared.
    """
    by_file = sums.reshape(*sums.shape[:-1], -1, 4)
    pooled = _scores(by_file.sum(axis=-2))
    macro = {f"macro_{name}": values.mean(axis=-1) for name, values in _scores(by_file).items()}
    return {"f1": pooled["f1"], "macro_f1": macro["macro_f1"], **pooled, **macro}

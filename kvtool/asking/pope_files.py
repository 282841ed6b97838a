"""POPE's files of answers and labels, as the official script and LLaVA's read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvtool.asking.records import need, need_text, read_records
from kvtool.errors import DatasetError
from kvtool.metrics.answers import parse_pope, pope_units
from kvtool.stats.bootstrap import Array

LABELS = ("yes", "no")


class Labeled(NamedTuple):
    """Where an answer stands, the answer, its label, and its picture; the location stands for a
    picture that is not named."""

    location: str
    text: str
    label: str
    picture: str


@dataclass(frozen=True)
class AnswerFile:
    """The answers of a file that can be scored."""

    path: Path
    answers: Sequence[Labeled]

    @property
    def units(self) -> Array:
        """The pope_units, (question, 4)."""
        answered_yes = [parse_pope(answer.text) == "yes" for answer in self.answers]
        is_yes = [answer.label == "yes" for answer in self.answers]
        return pope_units(np.array(answered_yes), np.array(is_yes))

    @property
    def n_empty(self) -> int:
        """The number of empty answers."""
        return sum(not answer.text.strip() for answer in self.answers)


def usable(answers: Sequence[Labeled]) -> tuple[list[Labeled], list[str]]:
    """Return the answers whose label is yes or no, and a note for each of the others."""
    labeled = [entry for entry in answers if entry.label in LABELS]
    notes = [
        f"{entry.location}: expected label yes or no, found {entry.label}"
        for entry in answers
        if entry.label not in LABELS
    ]
    return labeled, notes


class LabelFile:
    """A file of labels, as it is read. Raises DatasetError where it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = read_records(path)


def labeled_answers(path: Path, label_file: LabelFile | None) -> list[Labeled]:
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
    # Without ids only equal numbers of lines show that answers and labels belong together.
    if len(labels) != len(records):
        raise DatasetError(
            f"{label_path}: expected a label for each of the {len(records)} answers of {path}, "
            f"found {len(labels)}"
        )
    return [_pair(*answer, *label) for answer, label in zip(records, labels, strict=True)]


def _label_beside(location: str, record: dict[str, Any]) -> Labeled:
    """Return an answer whose label stands in the same record."""
    (answer,) = need(record, ("answer",), location)
    text = need_text(answer, "answer", location)
    return Labeled(location, text, _label(record), _picture(record, location))


def _picture(record: Mapping[str, Any], location: str) -> str:
    """Return the name of a record's picture, or its location where it names none."""
    image = record.get("image")
    return image if isinstance(image, str) else location


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
    # Prompts may add words to a question, hence one has to contain the other.
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
    return Labeled(
        location if truth in LABELS else label_location,
        need_text(answer, field, location),
        truth,
        _picture(record | label, location),
    )


def _label(record: dict[str, Any]) -> str:
    """Return yes or no; of a record with neither what it has instead, for the line that names
    it."""
    if "label" not in record:
        return f"no label among {', '.join(record)}"[:100]
    return record["label"] if record["label"] in LABELS else repr(record["label"])[:100]

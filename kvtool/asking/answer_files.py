"""Answers on disk: JSON lines of every question and condition, and the benchmarks' own files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvtool.asking.benchmarks import Benchmark
from kvtool.asking.condition_answers import Answers
from kvtool.datasets.base import Question
from kvtool.outputs import check_folder, check_output, write_output


def write_answers(
    path: Path, benchmark: Benchmark, questions: Sequence[Question], conditions: Sequence[Answers]
) -> None:
    """Write a JSON line for each answer.

    A line holds the condition, the draw of a control, the file or subset, question_id, image (its
    id), text, label (the right answer), answer as generated, said (as the official rules read it)
    and correct. Raises StoreError.
    """
    write_lines(
        path,
        (json.dumps(line, ensure_ascii=False) for line in _lines(benchmark, questions, conditions)),
    )


def _lines(
    benchmark: Benchmark, questions: Sequence[Question], conditions: Sequence[Answers]
) -> Iterator[dict[str, Any]]:
    for answers in conditions:
        # Only a drawn control has a draw: an absent field says nothing, a null would seem to.
        labels = {"condition": answers.condition, "draw": answers.draw}
        for question, text in zip(questions, answers.texts, strict=True):
            option = benchmark.read_option(text, question)
            yield {name: value for name, value in labels.items() if value is not None} | {
                benchmark.label: question.group,
                "question_id": question.id,
                "image": question.image_ids[0],
                "text": question.text,
                "label": question.answer,
                "answer": text,
                "said": option,
                "correct": option == benchmark.truth(question),
            }


def write_official(
    folder: Path,
    benchmark: Benchmark,
    questions: Sequence[Question],
    conditions: Sequence[Answers],
    pictures: Mapping[str, str],
) -> None:
    """Write FOLDER/<condition>/ with what the benchmark's own script, and kvtool score, read.

    These are coco_pope_<file>.json or <subset>.txt. `pictures` holds the file name of each image
    id.
    """
    for answers in conditions:
        pairs = list(zip(questions, answers.texts, strict=True))
        # The official scripts score one file of each group, and take its name for the group's.
        for group in dict.fromkeys(question.group for question in questions):
            members = [(question, text) for question, text in pairs if question.group == group]
            name = f"coco_pope_{group}.json" if benchmark.name == "pope" else f"{group}.txt"
            line = pope_line if benchmark.name == "pope" else mme_line
            lines = (
                line(question, pictures[question.image_ids[0]], text) for question, text in members
            )
            write_lines(folder / answers.label / name, lines)


def pope_line(question: Question, picture: str, answer: str) -> str:
    """Return the JSON line of an answer as POPE's script reads it."""
    number = question.id.rpartition("/")[2]
    record = {
        "question_id": int(number) if number.isdigit() else number,
        "image": picture,
        "text": question.text,
    }
    return json.dumps(record | {"label": question.answer, "answer": answer}, ensure_ascii=False)


def mme_line(question: Question, picture: str, answer: str) -> str:
    """Return the line of an answer as MME's script reads it.

    Tabs and line breaks, which the format keeps for itself, become blanks.
    """
    columns = (picture, question.text, question.answer, answer)
    return "\t".join(" ".join(column.split()) for column in columns)


def check_answers(answers: str | Path | None, official: str | Path | None = None) -> None:
    """Check that answers can be written before any question is asked. Raises UsageError or
    StoreError."""
    if answers is not None:
        check_output(answers, "--answers", make_folder=True)
    if official is not None:
        check_folder(official, "--official")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of UTF-8. Raises StoreError.

    A character that is none, half of a pair, is escaped as in JSON.
    """
    pieces = (f"{line}\n".encode(errors="backslashreplace") for line in lines)
    write_output(path, pieces, "answers", make_folder=True)

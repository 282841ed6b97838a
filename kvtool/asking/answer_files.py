"""Answers on disk: JSON lines of every question and condition, and the benchmarks' own files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvtool.asking.benchmarks import Answers, Benchmark
from kvtool.datasets.base import Question
from kvtool.outputs import check_folder, check_output, write_output


def write_answers(
    path: Path, benchmark: Benchmark, questions: Sequence[Question], every: Sequence[Answers]
) -> None:
    """A line an answer: condition, draw of a control, file or subset, question_id, image (its id),
    text, label (the right answer), answer as generated, said (as the official rules read it) and
    correct."""
    write_lines(
        path, (json.dumps(line, ensure_ascii=False) for line in _lines(benchmark, questions, every))
    )


def _lines(
    benchmark: Benchmark, questions: Sequence[Question], every: Sequence[Answers]
) -> Iterator[dict[str, Any]]:
    for answers in every:
        labels = {"condition": answers.condition, "draw": answers.draw}
        for question, text in zip(questions, answers.texts, strict=True):
            said = benchmark.parse(text)
            yield {name: value for name, value in labels.items() if value is not None} | {
                benchmark.label: question.group,
                "question_id": question.id,
                "image": question.image_ids[0],
                "text": question.text,
                "label": question.answer,
                "answer": text,
                "said": said,
                "correct": said == question.answer.lower(),
            }


def write_official(
    folder: Path,
    benchmark: Benchmark,
    questions: Sequence[Question],
    every: Sequence[Answers],
    pictures: Mapping[str, str],
) -> None:
    """FOLDER/<condition>/ with what the benchmark's own script, and kvtool score, read:
    coco_pope_<file>.json or <subset>.txt. pictures: file name of each image id."""
    for answers in every:
        pairs = list(zip(questions, answers.texts, strict=True))
        for group in dict.fromkeys(question.group for question in questions):
            of_group = [(question, text) for question, text in pairs if question.group == group]
            name = f"coco_pope_{group}.json" if benchmark.name == "pope" else f"{group}.txt"
            line = pope_line if benchmark.name == "pope" else mme_line
            lines = (
                line(question, pictures[question.image_ids[0]], text) for question, text in of_group
            )
            write_lines(folder / answers.label / name, lines)


def pope_line(question: Question, picture: str, answer: str) -> str:
    number = question.id.rpartition("/")[2]
    record = {
        "question_id": int(number) if number.isdigit() else number,
        "image": picture,
        "text": question.text,
    }
    return json.dumps(record | {"label": question.answer, "answer": answer}, ensure_ascii=False)


def mme_line(question: Question, picture: str, answer: str) -> str:
    """Tabs and line breaks, which the format keeps for itself, become blanks."""
    columns = (picture, question.text, question.answer, answer)
    return "\t".join(" ".join(column.split()) for column in columns)


def check_answers(answers: str | Path | None, official: str | Path | None = None) -> None:
    """Whether answers can be written there, before any question is asked. Raises UsageError or
    StoreError."""
    if answers is not None:
        check_output(answers, "--answers", make_folder=True)
    if official is not None:
        check_folder(official, "--official")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Lines of UTF-8; a character that is none, half of a pair, is escaped as in JSON. Raises
    StoreError."""
    pieces = (f"{line}\n".encode(errors="backslashreplace") for line in lines)
    write_output(path, pieces, "answers", make_folder=True)

"""Answers to POPE and MME as models' scripts leave them: scored, or refused in a line that says
where and why.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cases.outcomes import refusal, rows, told
from tests.support.shell import Shell

QUESTIONS = [
    {
        "question_id": i,
        "image": f"COCO_val2014_{i // 2:012d}.jpg",
        "text": f"Is there a {word} in the image?",
    }
    for i, word in enumerate(("dog", "cat", "cow", "bus", "car", "cup", "bed", "sink"))
]
LABELED: list[dict[str, Any]] = [
    {**q, "label": ("no", "yes")[i % 2]} for i, q in enumerate(QUESTIONS)
]
ANSWERS = ["Yes" if i % 3 else "No" for i in range(len(QUESTIONS))]
GOOD: list[dict[str, Any]] = [
    {**q, "answer": answer} for q, answer in zip(LABELED, ANSWERS, strict=True)
]
F1 = 2 / 3
"""Of GOOD by hand: three of five "yes" are right, one of four is missed."""
MARK = "\ufeff"


def lines(records: list[dict[str, Any]], end: str = "\n") -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + end for record in records)


def each(**fields: Any) -> str:
    return lines([{**record, **fields} for record in GOOD])


READ = {
    "one a line": lines(GOOD),
    "from Windows": MARK + lines(GOOD, "\r\n"),
    "a list": json.dumps(GOOD),
    "an indented list": MARK + json.dumps(GOOD, indent=1),
    "a line separator inside": lines(
        [{**record, "answer": record["answer"] + "\u2028it is"} for record in GOOD]
    ),
}
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "other labels": (
        lines([{**r, "label": r["label"].title()} for r in GOOD]),
        "a:1: expected label yes or no",
    ),
    "labels with a space": (each(label="no "), "a:1: expected label yes or no, found 'no '"),
    "null": (each(answer=None), "a:1: expected answer to be a text, found null"),
    "lists": (each(answer=["Yes"]), "a:1: expected answer to be a text, found ["),
    "NaN": ('{"answer": NaN, "label": "yes"}', "a:1: expected JSON, found: NaN"),
    "UTF-16": (lines(GOOD).encode("utf-16"), "expected UTF-8 text, found UTF-16"),
    "nothing": ("", "found none"),
}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.sampled
@pytest.mark.parametrize("case", READ)
def test_pope_is_scored(score: Shell, tmp_path: Path, case: str) -> None:
    records = rows(score("pope", "--answers", write(tmp_path / "a", READ[case])))
    assert records[0]["f1"] == pytest.approx(F1)
    assert records[0]["n"] == len(GOOD)


@pytest.mark.sampled
@pytest.mark.parametrize("case", REFUSED)
def test_pope_is_refused_with_place_and_cause(score: Shell, tmp_path: Path, case: str) -> None:
    content, words = REFUSED[case]
    assert words in refusal(score("pope", "--answers", write(tmp_path / "a", content)))


@pytest.mark.slow
def test_the_official_pairs_of_files(score: Shell, tmp_path: Path) -> None:
    """POPE's own evaluate.py and LLaVA's eval_pope.py take answers and labels from two files."""
    labels = write(tmp_path / "labels", lines(LABELED))
    official = [
        {"question": q["text"], "answer": answer}
        for q, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    llava = [
        {"question_id": q["question_id"], "text": answer}
        for q, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    for answers in (official, llava):
        path = write(tmp_path / "a", lines(answers))
        assert rows(score("pope", "--answers", path, "--labels", labels))[0]["f1"] == pytest.approx(
            F1
        )


@pytest.mark.slow
def test_two_files_and_standard_input(
    score: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = write(tmp_path / "a", lines(GOOD)), write(tmp_path / "b", json.dumps(GOOD))
    assert len(rows(score("pope", "--answers", first, second))) == 3
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines(GOOD).encode())))
    assert rows(score("pope", "--answers", "-"))[0]["f1"] == pytest.approx(F1)


def test_empty_answers_are_counted(score: Shell, tmp_path: Path) -> None:
    outcome = score("pope", "--answers", write(tmp_path / "a", each(answer="")))
    told(outcome, 0, "8 answers are empty and count as yes")


PAIR = (
    "a.jpg\tIs it? Please answer yes or no.\tYes\tYes\n"
    "a.jpg\tIs it not? Please answer yes or no.\tNo\tno.\n"
)
MME: dict[str, tuple[str, float | str]] = {
    "as released": (PAIR, 200.0),
    "from Windows": (MARK + PAIR.replace("\n", "\r\n"), 200.0),
    "an empty answer": (PAIR.replace("no.\n", "\n"), 50.0),
    "a tab in an answer": (
        PAIR.replace("no.\n", "no,\tfor it is not.\n"),
        "existence.txt:2: expected image TAB",
    ),
    "a line end in an answer": (
        PAIR.replace("no.\n", "no,\nfor it is not.\n"),
        "existence.txt:3: expected image TAB",
    ),
    "empty lines": (
        PAIR + "\n\n" + PAIR.replace("a.jpg", "b.jpg"),
        "existence.txt:3: expected image TAB",
    ),
    "a question alone": (
        PAIR + "b.jpg\tq\tYes\tYes\n",
        "expected a second question on image b.jpg",
    ),
    "three columns": ("a.jpg\tq\tYes\na.jpg\tq2\tNo\n", "existence.txt:1: expected image TAB"),
    "small truth": (
        PAIR.replace("\tNo\t", "\tno \t"),
        "existence.txt:2: expected the ground truth Yes or No",
    ),
}


@pytest.mark.parametrize("case", MME)
@pytest.mark.sampled
def test_mme(score: Shell, tmp_path: Path, case: str) -> None:
    content, expected = MME[case]
    write(tmp_path / "m/existence.txt", content)
    outcome = score("mme", "--answers", tmp_path / "m")
    if isinstance(expected, str):
        assert expected in refusal(outcome)
    else:
        assert rows(outcome)[0]["score"] == expected


@pytest.mark.slow
def test_mme_beside_other_files(score: Shell, tmp_path: Path) -> None:
    for subset in ("existence", "count", "position", "color"):
        write(tmp_path / f"m/{subset}.txt", PAIR)
    assert {row["score"] for row in rows(score("mme", "--answers", tmp_path / "m"))} >= {200.0}
    write(tmp_path / "m/README.txt", "These are my results.\n")
    assert "README.txt:1: expected image TAB" in refusal(score("mme", "--answers", tmp_path / "m"))

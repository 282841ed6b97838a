"""POPE's official pair of files: answers in one, labels in another; and answers piped in."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from kvtool.errors import DatasetError, UsageError
from kvtool.experiments.score.run import score

LABELS: list[dict[str, Any]] = [
    {
        "question_id": i,
        "image": "a.jpg",
        "text": f"Is there a thing {i}?",
        "label": "yes" if i % 2 else "no",
    }
    for i in range(8)
]
ANSWERS = ["Yes" if i % 3 else "No." for i in range(8)]


def lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return lines(tmp_path / "labels.json", LABELS)


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, Any]:
    """The scores of the same answers with their labels beside them."""
    together = [
        {"answer": answer, "label": record["label"]}
        for answer, record in zip(ANSWERS, LABELS, strict=True)
    ]
    return {**score("pope", answers=lines(tmp_path / "together.json", together)).rows[0]}


def test_the_official_pair_in_one_order(
    tmp_path: Path, labels: Path, expected: dict[str, Any]
) -> None:
    answers = [
        {"question": record["text"], "answer": answer}
        for answer, record in zip(ANSWERS, LABELS, strict=True)
    ]
    row = score("pope", answers=lines(tmp_path / "a.json", answers), labels=labels).rows[0]
    assert point_scores(row) == point_scores(expected)
    # The labels say which picture a question is about, and all are about one: no interval.
    assert (row["n_pictures"], expected["n_pictures"]) == (1, 8)
    assert row["accuracy_low"] is None


def point_scores(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says of the answers, without what depends on whose pictures they share."""
    return {
        name: value
        for name, value in row.items()
        if not name.endswith(("_low", "_high")) and name != "n_pictures"
    }


def test_llavas_answers_in_any_order(
    tmp_path: Path, labels: Path, expected: dict[str, Any]
) -> None:
    answers = [
        {
            "question_id": record["question_id"],
            "prompt": record["text"] + " Answer yes or no.",
            "text": answer,
        }
        for answer, record in zip(ANSWERS, LABELS, strict=True)
    ]
    result = score("pope", answers=lines(tmp_path / "a.json", answers[::-1]), labels=labels)
    assert {name: result.rows[0][name] for name in ("f1", "accuracy", "n")} == {
        name: expected[name] for name in ("f1", "accuracy", "n")
    }


def test_answers_to_other_questions_are_refused(tmp_path: Path, labels: Path) -> None:
    answers = [{"question": record["text"], "answer": "Yes"} for record in LABELS[::-1]]
    with pytest.raises(
        DatasetError, match=r"a.json:1: expected the answer to 'Is there a thing 0\?'"
    ):
        score("pope", answers=lines(tmp_path / "a.json", answers), labels=labels)


def test_files_that_do_not_belong_together(tmp_path: Path, labels: Path) -> None:
    few = lines(tmp_path / "few.json", [{"answer": "Yes"}] * 3)
    with pytest.raises(
        DatasetError, match=r"expected a label for each of the 3 answers of .*few.json, found 8"
    ):
        score("pope", answers=few, labels=labels)
    unknown = lines(tmp_path / "unknown.json", [{"question_id": 99, "text": "Yes"}])
    with pytest.raises(DatasetError, match=r"expected a question_id of .*labels.json, found '99'"):
        score("pope", answers=unknown, labels=labels)
    with pytest.raises(UsageError, match="expected a file for each of 1 files of answers, found 2"):
        score("pope", answers=few, labels=[labels, labels])


def test_a_file_of_labels_that_cannot_be_read_is_left_out(tmp_path: Path, labels: Path) -> None:
    good = lines(tmp_path / "good.json", [{"answer": "Yes"}] * 8)
    second = lines(tmp_path / "other.json", [{"answer": "No"}] * 8)
    bad = tmp_path / "bad.json"
    bad.write_text('{"question_id": 1, "label": "yes"\n')
    result = score("pope", answers=[good, second], labels=[labels, bad])
    assert (result.n, result.n_skipped, len(result.rows)) == (8, 1, 2)
    assert "bad.json:1: expected JSON" in result.skipped[0]
    with pytest.raises(DatasetError, match=r"found none of 1; first: .*bad.json:1: expected JSON"):
        score("pope", answers=second, labels=bad)


def test_standard_input(
    tmp_path: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = io.BytesIO((tmp_path / "together.json").read_bytes())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(data))
    assert score("pope", answers="-").rows[0] == expected


def test_empty_answers_are_counted_and_named(tmp_path: Path) -> None:
    records = [
        {"answer": "", "label": "yes"},
        {"answer": " ", "label": "no"},
        {"answer": "No", "label": "no"},
    ]
    result = score("pope", answers=lines(tmp_path / "a.json", records))
    assert [row["n_empty"] for row in result.rows] == [2, 2]
    assert result.rows[0]["yes_ratio"] == pytest.approx(2 / 3)
    assert result.skipped == [
        "2 answers are empty and count as yes, as the official script reads them"
    ]

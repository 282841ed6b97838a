"""kvtool data as a shell sees it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.cli import app
from kvtool.cli.data import parse_names
from kvtool.errors import UsageError
from tests.support import datasets as builders


@pytest.mark.slow
def test_only_some_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["kvtool", "data", "scenes", str(tmp_path / "s"), "--only", "msrc, davis"]
    )
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert stop.value.code in (0, None)
    assert [json.loads(line)["dataset"] for line in capsys.readouterr().out.splitlines()] == [
        "msrc",
        "davis",
    ]
    assert sorted(path.name for path in (tmp_path / "s").iterdir() if path.is_dir()) == [
        "davis",
        "msrc",
    ]


@pytest.mark.parametrize("text", ["", " ", "msrc,", ",msrc", "msrc,,davis"])
def test_no_name_is_not_all_names(text: str) -> None:
    with pytest.raises(UsageError, match="--only: expected data sets such as msrc,davis; found"):
        parse_names(text)


Run = tuple[int, dict[str, dict[str, Any]], str]


@pytest.fixture
def check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Run]:
    """Exit code, rows by what they are of, and standard error of `kvtool data check SPEC`."""

    def run(spec: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["kvtool", "data", "check", spec, "--format", "jsonl"])
        with pytest.raises(SystemExit) as stop:
            app.main()
        out, err = capsys.readouterr()
        rows = [json.loads(line) for line in out.splitlines()]
        return int(stop.value.code or 0), {row["what"]: row for row in rows}, err

    return run


def counts(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("served", "n", "unit", "images", "classes", "left_out"))


@pytest.mark.slow
def test_check_of_a_whole_data_set(tmp_path: Path, check: Callable[[str], Run]) -> None:
    code, rows, _ = check(f"own:{builders.own(tmp_path)}")
    assert code == 0
    assert {what: counts(row) for what, row in rows.items() if not what.startswith("prefix")} == {
        "images": (True, 22, "images", 22, None, 0),
        "texts": (True, 6, "texts", None, None, 0),
        "captions": (True, 4, "sentences", 4, None, 0),
        "concepts": (True, 15, "masks", 14, 2, 0),
        "foreground-segmentation": (True, 1000, "episodes", 14, 2, 0),
        "co-segmentation": (True, 15, "masks", 14, 2, 0),
        "semantic-segmentation": (True, 14, "masks", 14, 2, 0),
        "referring-expression": (True, 3, "expressions", 3, None, 0),
        "semantic-correspondence": (True, 2, "pairs", 4, None, 0),
        "temporal-correspondence": (True, 2, "objects", 8, None, 0),
        "knockout": (True, 15, "questions", 8, None, 0),
        "paired semantic-correspondence": (False, 0, "questions", 0, None, 0),
        "paired image-choice": (True, 4, "questions", 6, None, 0),
        "paired two-choice": (True, 8, "questions", 8, None, 0),
    }
    assert rows["prefix correct"]["n"] == 4
    assert rows["prefix random"]["n"] == 22


@pytest.mark.slow
def test_check_says_what_is_left_out_and_what_is_missing(
    tmp_path: Path, check: Callable[[str], Run]
) -> None:
    root = builders.own(tmp_path, per_class=3)
    (root / "masks/p03.png").unlink()
    builders.label_png(root / "masks/p02.png", np.ones((32, 24)))
    (root / "images/p05.png").write_bytes(b"no picture")
    for name in ("pairs.jsonl", "captions.jsonl"):
        (root / name).unlink()
    builders.write_text(root / "questions.jsonl", "{")
    code, rows, messages = check(f"own:{root}")
    assert code == 4
    assert counts(rows["images"]) == (True, 13, "images", 13, None, 1)
    assert rows["foreground-segmentation"]["unit"] == "episodes of 1 shot"
    # Without a mask, one that is turned, one of a picture that cannot be read.
    assert rows["semantic-segmentation"]["left_out"] == 3
    assert rows["concepts"]["left_out"] == 2
    assert rows["captions"]["missing"] == "no captions.jsonl"
    assert rows["semantic-correspondence"]["missing"] == "no pairs.jsonl"
    assert (
        rows["referring-expression"]["missing"]
        == "no line of captions.jsonl that has a class or a mask"
    )
    assert rows["prefix correct"]["missing"] == "own offers none, random"
    assert "none that can be used" in rows["knockout"]["missing"]
    assert rows["knockout"]["left_out"] == 1
    for reason in ("it is turned", "no mask of image p03", "p05.png", "questions.jsonl"):
        assert reason in messages


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "what", "n"),
    [
        ("spair", "semantic-correspondence", 4),
        ("pascal", "foreground-segmentation", 1000),
        ("davis", "images", 12),
    ],
)
def test_check_of_any_data_set(
    tmp_path: Path, check: Callable[[str], Run], name: str, what: str, n: int
) -> None:
    root = getattr(builders, name)(tmp_path)
    code, rows, _ = check(f"{ {'spair': 'spair71k', 'pascal': 'pascal5i'}.get(name, name) }:{root}")
    assert rows[what]["n"] == n
    assert not rows["knockout"]["served"]
    assert code == (4 if name == "davis" else 0)  # one sequence has no object


@pytest.mark.slow
def test_check_of_nothing_usable(tmp_path: Path, check: Callable[[str], Run]) -> None:
    builders.write_text(tmp_path / "images/a.png", "no picture")
    assert check(f"own:{tmp_path}")[0] == 1
    assert check(f"folder:{tmp_path}")[0] == 1
    assert check(f"own:{tmp_path}/absent")[0] == 1
    assert check("own")[0] == 2

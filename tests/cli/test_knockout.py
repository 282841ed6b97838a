"""kvtool knockout as a shell sees it, on the embedded world with a tiny random model: its answers
mean nothing.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvtool.cli import app
from kvtool.demo.layouts import write_scenes
from tests.support.scenes import World

Knockout = Callable[..., tuple[int, list[dict[str, Any]], list[str]]]


@pytest.fixture
def knockout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Knockout:
    """Run the command: (exit code, rows of standard output, lines of standard error)."""

    def run(*arguments: object, stdin: str = "") -> tuple[int, list[dict[str, Any]], list[str]]:
        monkeypatch.setattr(sys, "argv", ["kvtool", "knockout", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return (
            code,
            [json.loads(line) for line in captured.out.splitlines()],
            captured.err.splitlines(),
        )

    return run


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("pope", "mme")


SCORES = {
    "f1",
    "macro_f1",
    "accuracy",
    "precision",
    "recall",
    "yes_ratio",
    "f1_low",
    "f1_high",
}
HEADS = '{"layer": 0, "kv_head": 1}\n{"layer": 2, "kv_head": 0}\n'


@pytest.mark.slow
def test_pope_and_mme_from_nothing_but_a_model(
    knockout: Knockout, tmp_path: Path, tiny_model: Path, scenes: Path
) -> None:
    common = ("--max-new-tokens", 3, "--limit", 3, "--heads", "-", "--rows", "all")
    origin = ("--benchmark", f"pope:{scenes}/pope", "--model", tiny_model)
    controls = ("--controls", "dependent,random", "--draws", 2)
    answers = ("--answers", tmp_path / "answers.jsonl")
    code, rows, err = knockout(
        tmp_path / "s.kv", *origin, *common, *controls, *answers, stdin=HEADS
    )
    extraction, middle, draws, empty = err
    assert extraction.startswith("extracting ")
    assert (code, middle) == (0, "condition middle: no chosen head in layers 1-1, left out")
    assert draws == "control dependent: distinct draws in these layers: 1, not 2"
    assert empty.startswith("empty answers count as yes, as POPE's script reads them: ")
    totals = [row for row in rows if "file" not in row]
    assert [(row["condition"], row.get("draw"), row["n_heads"]) for row in totals] == [
        ("none", None, 0), ("chosen", None, 2), ("early", None, 1), ("late", None, 1),
        ("dependent", None, 2),
        ("random", "all", 2), ("random", 0, 2), ("random", 1, 2),
    ]  # fmt: skip
    assert {row["n"] for row in totals} == {54}
    assert [row["file"] for row in rows[1:4]] == ["random", "popular", "adversarial"]
    assert rows[0].keys() >= SCORES
    assert {"n_lost", "n_gained", "mcnemar_p", "mcnemar_mid_p"} <= totals[1].keys()
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 54 * 7
    options = ("--benchmark", f"mme:{scenes}/mme", "--layers", "last:1")
    code, rows, _ = knockout(tmp_path / "s.kv", *options, *common, stdin=HEADS)
    assert code == 0
    assert [(row["condition"], row.get("subset"), row["n"]) for row in rows] == [
        (condition, subset, 3)
        for condition in ("none", "chosen", "late")
        for subset in (None, "color")
    ]
    assert {"score", "acc", "acc_plus", "yes_ratio", "score_low"} <= rows[0].keys()


@pytest.mark.slow
def test_a_missing_image_is_exit_4(knockout: Knockout, tmp_path: Path, tiny_model: Path) -> None:
    write_scenes(tmp_path / "scenes", only=["mme"])
    first = tmp_path / "scenes" / "mme" / "color" / "000001.jpg"
    first.write_bytes(b"")
    (tmp_path / "heads.jsonl").write_text(HEADS)
    code, rows, err = knockout(
        *(tmp_path / "s.kv", "--benchmark", f"mme:{tmp_path}/scenes/mme", "--model", tiny_model),
        *("--max-new-tokens", 1, "--limit", 3, "--heads", tmp_path / "heads.jsonl"),
    )
    assert (code, rows[0]["n"]) == (4, 2)
    assert err[-1] == "kvtool: knockout: 2 questions were left out, 2 images scored"
    assert sum(line.startswith("left out: question color/000001/") for line in err) == 2


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "expected"),
    [
        (["--heads", "-"], "", 2, "heads standard input: expected at least one head, found none"),
        (["--heads", "-"], HEADS + "{layer", 2, "standard input: line 3: expected JSON"),
        (
            ["--heads", "-"],
            HEADS + '{"layer": 3, "kv_head": 0}',
            2,
            "line 3: expected layer from 0 to 2, found 3",
        ),
        (
            ["--heads", "-"],
            '{"layer": 0, "kv_head": 0, "input_agnostic": false}',
            2,
            "none of an input-agnostic key",
        ),
        (["--heads", "-", "--layers", "middle"], HEADS, 2, "some that hold a chosen head"),
        (["--heads", "-", "--layers", "3-x"], HEADS, 2, "--layers"),
        (["--heads", "-", "--layers", "top"], HEADS, 2, "found 'top'"),
        (["--heads", "-", "--controls", "all"], HEADS, 2, "found 'all'"),
        (["--heads", "nowhere.jsonl"], "", 2, "nowhere.jsonl: expected agnostic, "),
        (
            ["--heads", "-", "--benchmark", "coco:."],
            HEADS,
            2,
            "benchmark: expected one of pope:PATH",
        ),
        (["--heads", "-", "--benchmark", "pope:nowhere"], HEADS, 1, "nowhere"),
        (["--heads", "-", "--run", "other"], HEADS, 2, "no run 'other'"),
    ],
)
@pytest.mark.slow
def test_bad_requests_are_one_line(
    knockout: Knockout,
    store: Path,
    scenes: Path,
    arguments: list[str],
    stdin: str,
    code: int,
    expected: str,
) -> None:
    benchmark = [] if "--benchmark" in arguments else ["--benchmark", f"mme:{scenes}/mme"]
    status, rows, err = knockout(store, "--limit", 1, *benchmark, *arguments, stdin=stdin)
    assert (status, rows) == (code, [])
    assert expected in err[-1]
    assert err[-1].startswith("kvtool: ")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, scenes: Path) -> Path:
    import kvtool

    path = tmp_path_factory.mktemp("store") / "s.kv"
    kvtool.extract(
        path, model=str(tiny_model), dataset=f"mme:{scenes}/mme", kinds=("key", "value"), limit=1
    )
    return path

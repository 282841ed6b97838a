"""Arguments that nobody should give: refused in one line with exit code 2, before anything is
opened or allocated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

import kvtool
from kvtool.bounds import BOUNDS, check_number, check_options
from kvtool.errors import UsageError
from kvtool.store import Run
from tests.support.runs import new_run
from tests.support.shell import Shell

pytestmark = pytest.mark.usefixtures("notes")

REFUSED = [
    "probe s all --seed -1",
    "probe s all --seed 4294967296",
    "probe s all --layers 0-999999999",
    "probe s all --layers " + "9" * 5000,
    "probe s all --heads 0-99999999",
    "probe s all --limit 0",
    "probe s all --limit " + "9" * 30,
    "probe s all --limit " + "9" * 5000,
    "probe s all --episodes 1000000000000",
    "probe s all --c nan",
    "probe s all --c inf",
    "probe s all --c 0",
    "probe s all --device mps",
    "probe s all --device meta",
    "probe s all --device cuda:99999999999",
    "paired s art-style --folds 1",
    "paired s art-style --n 0",
    "paired s art-style --max-new-tokens 99999999999",
    "knockout s --benchmark scenes --heads - --draws 1000000000",
    "knockout s --benchmark scenes --heads - --device xpu",
    "prefix s referring-expression --device CUDA",
    "correlate s --device cpu:0",
    "search s --image a --at nan,1",
    "search s --image a --at 1e308,1",
    "search s --image a --at 1,2 -k 99999999999",
    "search s --image a --at 1,2 --layer -1",
    "variance s --threshold nan",
    "variance s --threshold inf",
    "variance s --seed x",
    "show s --image a -o a.png --block value:99999999999999:1",
    "show s --image a -o a.png --limit 0",
    "report s -o a.html --examples -1",
    "report s -o a.html --blocks 99999999999",
    "extract s --model m --dataset scenes --wait nan",
    "extract s --model m --dataset scenes --wait inf",
    "extract s --model m --dataset scenes --wait -1",
    "extract s --model m --dataset scenes --batch-size 0",
    "extract s --model m --dataset scenes --devices cpu,mps",
    "extract s --model m --dataset scenes --devices cpu,",
    "extract s --model m --dataset scenes --min-free-vram 1e999GB",
    "data scenes d --seed -1",
    "data scenes d --seed 99999999999",
]


@pytest.mark.slow
@pytest.mark.parametrize("line", REFUSED, ids=lambda line: line[:60])
def test_refused_in_one_line(
    line: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = shell(*line.split(" "))
    assert (code, out, len(err)) == (2, "", 1), err
    assert err[0].startswith("kvtool: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
@pytest.mark.parametrize(
    "line",
    [
        "store info X",
        "probe s X",
        "report s -o p.html --title X",
        "extract s --model X --dataset folder:X",
        "X",
    ],
)
def test_text_that_is_none(line: str, text: str, shell: Shell) -> None:
    code, out, err = shell(*(text if word == "X" else word for word in line.split()))
    assert (code, out, len(err)) == (2, "", 1)
    assert "expected text in UTF-8 without a NUL, found" in err[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [("SEED", "x"), ("SEED", "-1"), ("C", "nan"), ("DEVICE", "mps")]
)
def test_flags_of_the_environment_are_no_exception(
    name: str, value: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"KVTOOL_PROBE_{name}", value)
    code, out, err = shell("probe", "s", "all")
    assert (code, out, len(err)) == (2, "", 1)
    assert f"--{name.lower()}" in err[0]


Call = Callable[[], object]


def wrong_extractions(run: Run) -> list[tuple[Call, str]]:
    """Calls of `extract` that cannot be served, and what their error says."""
    return [
        (
            lambda: kvtool.extract(run.store, model="m", dataset=[3]),  # type: ignore[list-item]
            "dataset: expected a list of paths",
        ),
        (
            lambda: kvtool.extract(
                run.store,
                model=None,  # type: ignore[arg-type]
                dataset="scenes",
            ),
            "model: expected a text, found NoneType",
        ),
        (
            lambda: kvtool.extract("a\0b", model="m", dataset="scenes"),
            "store: expected text in UTF-8 without a NUL",
        ),
        (
            lambda: kvtool.extract(run.store, model="m", dataset="scenes", prefix="text:\udce9"),
            "prefix: expected text",
        ),
        (
            lambda: kvtool.extract(run.store, model="m", dataset="scenes", wait_s=math.nan),
            "wait_s: expected a number",
        ),
    ]


def wrong_analyses(run: Run, page: Path) -> list[tuple[Call, str]]:
    """Other calls that cannot be served, and what their error says."""
    return [
        (lambda: kvtool.open("a\0b"), "store: expected text"),
        (
            lambda: kvtool.probe(run, "all", seed=-1),
            "seed: expected a whole number from 0 to 4294967295, found -1",
        ),
        (
            lambda: kvtool.probe(run, "all", seed=0.5),  # type: ignore[arg-type]
            "seed: expected a whole number",
        ),
        (
            lambda: kvtool.probe(run, "all", layers=range(10**9)),
            "layers: expected 100000 numbers at most",
        ),
        (lambda: kvtool.probe(run, "all", limit=True), "limit: expected a whole number"),
        (
            lambda: kvtool.variance(run, seed="1"),  # type: ignore[arg-type]
            "seed: expected a whole number from 0 to 4294967295, found '1'",
        ),
        (lambda: kvtool.report(run.store, page, title="\ud800"), "title: expected text"),
        (lambda: kvtool.score("pope", answers="\ud800"), "answers: expected text"),
        (lambda: kvtool.search(run, "a", (0, 0), k=10**4000), "k: expected a whole number"),
    ]


def test_the_same_from_python(tmp_path: Path) -> None:
    run = new_run(tmp_path / "s.kv")
    for call, message in wrong_extractions(run) + wrong_analyses(run, tmp_path / "p"):
        with pytest.raises(UsageError, match=message):
            call()


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_hold_their_ends(name: str) -> None:
    low, high = BOUNDS[name]
    for fine in (low, high):
        check_number(name, fine)
    for bad in (low - 1, high + 1, math.nan, math.inf, None, "1", 10**5000, 1j):
        with pytest.raises(UsageError, match=f"^{name}: expected"):
            check_number(name, bad)
    check_options({name: None})


def test_numbers_of_other_libraries_will_do() -> None:
    import numpy as np

    check_options({"seed": np.int64(3), "c": np.float32(0.5), "layers": np.arange(3)})

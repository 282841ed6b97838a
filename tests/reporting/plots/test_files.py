"""Plots as files: formats, equal bytes, what is refused, and whose settings hold."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kvtool.errors import KvtoolError, UsageError
from kvtool.registry import EXPERIMENTS, has_part
from kvtool.reporting.plots import check, plot
from kvtool.reporting.plots.style import fitted, width_of
from kvtool.result import Result
from tests.support.drawn import drawn
from tests.support.result_shapes import LONG, RESULTS


@pytest.mark.slow
@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
@pytest.mark.parametrize(
    "command", [name for name in EXPERIMENTS.names() if has_part(name, "plot")]
)
def test_files(command: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / f"one.{format}"
    path.write_text("older")
    plot(Result.from_json(RESULTS[command].to_json()), path)
    data = path.read_bytes()
    assert data.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[format])
    assert list(tmp_path.iterdir()) == [path]
    if format == "pdf":
        assert b"/FontFile2" in data, "the font is in the file, as outlines"


@pytest.mark.slow
@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_equal_results_give_equal_files(format: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"one.{format}", tmp_path / f"two.{format.upper()}"
    plot(RESULTS["paired"], first)
    plot(RESULTS["paired"], second)
    assert first.read_bytes() == second.read_bytes()


def test_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("a.jpg", "a", "a.png.txt"):
        with pytest.raises(
            UsageError, match=r"a name that ends in \.png, \.svg, \.pdf; found .*" + name
        ):
            check(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match="expected a file, found a folder"):
        check(tmp_path / "folder.png")
    with pytest.raises(UsageError, match="expected an existing folder"):
        check(tmp_path / "nowhere" / "a.png")
    with pytest.raises(UsageError, match="--plot: search has no figure"):
        plot(replace(RESULTS["probe"], command="search"), tmp_path / "a.png")
    with pytest.raises(KvtoolError, match="expected a result with rows"):
        plot(replace(RESULTS["probe"], rows=[]), tmp_path / "a.png")
    with pytest.raises(KvtoolError, match="expected a best block"):
        plot(replace(RESULTS["paired"], best=None), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.png"]


@pytest.mark.slow
def test_names_are_text(tmp_path: Path) -> None:
    """Neither mathematics nor signs that the font lacks, nor a line break."""
    config = {"model": "a$\\no_such$\n模型\x07_b", "dataset": "d", "run": "r"}
    result = replace(RESULTS["probe"], config=config)
    assert "a$\\no_such$ ???_b" in drawn(result).get_suptitle()
    plot(result, tmp_path / "a.png")


@pytest.mark.slow
def test_fitted() -> None:
    assert fitted("short", 1) == "short"
    cut = fitted(LONG, 1)
    assert width_of(cut, 7) <= 1 < width_of(LONG, 7)
    start, end = cut.split("…")
    assert LONG.startswith(start)
    assert LONG.endswith(end)
    assert fitted(LONG, 0) == "…"


@pytest.mark.slow
def test_settings_of_the_user_stay(tmp_path: Path) -> None:
    """In a process of its own: no pyplot, no backend chosen, settings as before and without
    effect.
    """
    code = f"""
import sys, matplotlib
from tests.support import results
from kvtool.reporting.plots import plot
plot(results.correlate(), {str(tmp_path / "one.png")!r})
matplotlib.rcParams.update({{"font.size": 20, "axes.facecolor": "red", "savefig.bbox": "tight"}})
before = matplotlib.rcParams.copy()
plot(results.correlate(), {str(tmp_path / "two.png")!r})
assert dict.items(matplotlib.rcParams) == dict.items(before)
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, cwd=Path(__file__).parents[3]
    )
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()

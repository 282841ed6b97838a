"""--plot as a shell sees it: files beside the data, refused before any work."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kvtool
from kvtool.cli import app
from kvtool.result import Result
from tests.support import multiple_results, results
from tests.support.keys import planted
from tests.support.units import noise, sample, write_run

Command = Callable[..., tuple[int, list[str], list[str]]]
RESULTS: dict[str, tuple[list[str], Result]] = {
    "probe": (["semantic-correspondence"], results.probe()),
    "knockout": (["--benchmark", "scenes", "--heads", "agnostic"], results.knockout()),
    "prefix": (["referring-expression"], results.prefix()),
    "paired": (["art-style"], results.paired(8, 2)),
    "correlate": ([], results.correlate()),
    "average": ([], multiple_results.average()),
    "compare": (["a", "b", "semantic-correspondence"], multiple_results.compare()),
}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `kvtool ...`: (exit code, lines of standard output, lines of standard error)."""

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", ["kvtool", *map(str, arguments)])
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    samples = [sample(f"{i}", i, (60, 40), (4, 6)) for i in range(2)]
    return write_run(tmp_path / "s.kv", "spair71k", "test", tmp_path, samples, noise(0)).store


@pytest.mark.slow
@pytest.mark.parametrize("name", RESULTS)
def test_a_file_beside_the_data(
    name: str, command: Command, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words, result = RESULTS[name]
    monkeypatch.setattr(kvtool, name, lambda *_, **__: result, raising=False)
    png, pdf = tmp_path / "a.png", tmp_path / "a.pdf"
    code, out, err = command(name, store, *words, "--plot", png, "--plot", pdf)
    assert code == 0, err
    assert len(out) == len(result.rows if name == "variance" else result.level_rows("summary"))
    assert err[-2:] == [f"plot: {png}", f"plot: {pdf}"]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_variance_of_a_store(command: Command, tmp_path: Path) -> None:
    run = planted(tmp_path / "v.kv", constant=[(0, 0), (0, 1), (1, 0), (7, 1)], layers=8, heads=2)
    code, out, _ = command("variance", run.store, "--plot", tmp_path / "a.svg")
    assert code == 0
    assert [json.loads(line)["input_agnostic"] for line in out].count(True) == 4
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


@pytest.mark.slow
def test_probe_all_has_a_file_for_each_task(
    command: Command, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kvtool, "probe", lambda *_, **__: results.probe(), raising=False)
    assert command("probe", store, "all", "--plot", tmp_path / "a.b.png")[0] == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["a.b-semantic-correspondence.png"]


@pytest.mark.slow
def test_a_cell_of_paired_has_its_plot(
    command: Command, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kvtool, "paired", lambda *_, **__: results.paired(8, 2), raising=False)
    assert (
        command("paired", store, "art-style", "--show", "both", "--plot", tmp_path / "a.png")[0]
        == 0
    )
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize("name", [*RESULTS, "variance"])
@pytest.mark.slow
def test_refused_before_any_work(
    name: str, command: Command, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def work(*_: object, **__: object) -> Result:
        raise AssertionError("work was done")

    monkeypatch.setattr(kvtool, name, work, raising=False)
    (tmp_path / "folder.png").mkdir()
    for path, message in (
        ("a.gif", "ends in .png, .svg, .pdf"),
        ("folder.png", "a folder"),
        ("no/a.png", "make it"),
    ):
        words = RESULTS[name][0] if name in RESULTS else []
        code, out, err = command(name, store, *words, "--plot", tmp_path / path)
        assert (code, out, len(err)) == (2, [], 1)
        assert message in err[0]

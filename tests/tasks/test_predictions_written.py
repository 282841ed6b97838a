"""--save-predictions: files that are written whole or not at all, once, and counted before."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path

import pytest

from kvtool.errors import SpaceError, StoreError, UsageError
from kvtool.experiments.probe.run import probe
from kvtool.tasks import predictions
from kvtool.tasks.evaluation import count_blocks
from tests.support.datasets import write_text
from tests.support.shell import Shell
from tests.support.tasks import co_segmentation as msrc
from tests.tasks.predicted import BLOCK


@pytest.mark.slow
def test_a_kept_result_writes_the_same(tmp_path: Path) -> None:
    run = msrc.make_run(tmp_path)
    for name in ("one", "two"):
        probe(run, msrc.TASK, save_predictions=tmp_path / name, select="split", **BLOCK)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 9
    assert all(
        (tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files
    )


@pytest.mark.slow
def test_nothing_is_overwritten_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = msrc.make_run(tmp_path), tmp_path / "taken"
    write_text(folder / "x", "mine")
    with pytest.raises(
        UsageError, match=r"expected a new or empty folder, found files in it: .*taken"
    ):
        probe(run, msrc.TASK, save_predictions=folder)
    with pytest.raises(UsageError, match=r"found a file: .*taken/x"):
        probe(run, msrc.TASK, save_predictions=folder / "x")
    with pytest.raises(StoreError, match=r"--save-predictions: .*Not a directory"):
        probe(run, msrc.TASK, save_predictions=folder / "x" / "below")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "empty").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "_save", full)
        with pytest.raises(SpaceError, match=r"--save-predictions: .*no space left"):
            probe(run, msrc.TASK, save_predictions=tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "empty", "store", "taken"]
    probe(run, msrc.TASK, save_predictions=str(tmp_path / "empty"))
    assert (tmp_path / "empty/cow/cow0.png").is_file()


@pytest.mark.slow
def test_the_total_of_a_progress_bar(tmp_path: Path) -> None:
    run, done = msrc.make_run(tmp_path), list[int]()
    probe(run, msrc.TASK, progress=lambda n, *_: done.append(n))
    assert sum(done) == count_blocks(run, msrc.TASK) == 6 * 2 + 2
    assert count_blocks(run, msrc.TASK, kinds=["value"], **BLOCK) == 1


@pytest.mark.slow
def test_the_command(tmp_path: Path, shell: Shell) -> None:
    """Of one task into the folder, of all tasks into a folder each."""
    run = msrc.make_run(tmp_path)
    probe_run = partial(shell, "probe", run.store)
    single, full = tmp_path / "one", tmp_path / "every"
    assert probe_run("co-segmentation", "--save-predictions", single)[0] == 0
    assert probe_run("all", "--save-predictions", full)[0] == 0
    assert (single / "cow/cow0.png").is_file()
    assert (full / "co-segmentation/cow/cow0.png").is_file()
    code, out, err = probe_run("all", "--save-predictions", full)
    assert (code, out) == (2, "")
    assert len(err) == 1

"""What kvtool.extract takes of memory and disk, and batches that do not fit."""

from __future__ import annotations

import time
import weakref
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.engine import local, ready_parts
from kvtool.engine.batches import PartWork
from kvtool.engine.plan import Job
from kvtool.errors import KvtoolError
from kvtool.store import Run


@pytest.mark.slow
def test_a_run_keeps_its_blocks_whatever_the_images_seem_to_take(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their estimate depends on --limit and on which images can be read; the run goes on all the
    same.
    """
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}", "view": "full"}
    monkeypatch.setattr("kvtool.engine.plan.PART_IMAGES", 4)
    first = kvtool.extract(tmp_path / "s.kv", limit=1, **options)
    monkeypatch.setattr("kvtool.engine.plan.PART_IMAGES", 2)
    second = kvtool.extract(tmp_path / "s.kv", **options)
    assert (second.run, second.n_before, second.n_done) == (first.run, 1, 5)
    assert [part.name for part in kvtool.open(tmp_path / "s.kv").run().parts()] == [
        "0000000-0000001",
        "0000001-0000004",
        "0000004-0000006",
    ]


@pytest.mark.slow
def test_estimate_writes_nothing_and_is_true(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    job = Job(str(tmp_path / "s.kv"), str(tiny_model), f"folder:{few}", codec="none")
    estimate = local.estimate(job)
    assert not (tmp_path / "s.kv").exists()
    assert (estimate.n_images, estimate.n_todo) == (6, 6)
    local.extract(job)
    run = kvtool.open(tmp_path / "s.kv").run()
    raw = sum(
        array.nbytes
        for sample in run.samples
        for array in run.read_image(sample.id, raw=True).values()
    )
    assert raw == estimate.todo_bytes
    assert local.estimate(job).n_todo == 0


@pytest.mark.slow
def test_no_memory_for_a_batch_halves_it(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from kvtool.models.families.llava_onevision import LlavaOnevision

    capture, sizes = LlavaOnevision.begin_capture, []

    def limited(self: LlavaOnevision, batch: list[object], request: object) -> object:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return capture(self, batch, request)  # type: ignore[arg-type]

    monkeypatch.setattr(LlavaOnevision, "begin_capture", limited)
    report = kvtool.extract(
        tmp_path / "s.kv",
        model=str(tiny_model),
        dataset=f"folder:{few}",
        batch_size=6,
        check=False,
    )
    assert report.n_done == 6
    assert sizes[0] == 6
    monkeypatch.setattr(
        LlavaOnevision,
        "begin_capture",
        lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none")),
    )
    with pytest.raises(KvtoolError, match=r"000\.png.*found no memory left"):
        kvtool.extract(tmp_path / "t.kv", model=str(tiny_model), dataset=f"folder:{few}")


@pytest.mark.slow
def test_memory_does_not_grow_with_images(
    tmp_path: Path, tiny_model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts alive at once: those of a window, and one each prepared, ready, waiting and being
    written.
    """
    parts: weakref.WeakSet[PartWork] = weakref.WeakSet()
    alive: list[int] = []
    commit = Run.commit_part

    class Counted(PartWork):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            parts.add(self)

    def slow(self: Run, *args: Any, **kwargs: Any) -> int:
        time.sleep(0.05)
        alive.append(len(parts))
        return commit(self, *args, **kwargs)

    monkeypatch.setattr(ready_parts, "PartWork", Counted)
    monkeypatch.setattr("kvtool.engine.windows.WINDOW_PARTS", 3)
    monkeypatch.setattr(Run, "commit_part", slow)
    monkeypatch.setattr("kvtool.engine.plan.PART_IMAGES", 4)
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{pictures}")
    assert len(alive) == 18
    assert 3 <= max(alive) <= 7

"""verify lists every kind of damage, and reading stops at it with run, part and array named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvtool.errors import CorruptError, StoreError
from kvtool.store import Run, Store, open_store, owners
from kvtool.store.verify import Problem, verify
from tests.support.runs import (
    commit,
    config,
    create_run,
    dead_process,
    finite_bits,
    new_store,
    ragged,
)

PART = "0000000-0000003"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run of two parts and a text, and a result."""
    import numpy as np

    store = new_store(tmp_path)
    run = create_run(store, config())
    commit(run, [ragged(index) for index in range(3)])
    commit(run, [ragged(index) for index in range(3, 5)])
    run.commit_text(
        ["cat", "dog"], finite_bits(np.random.default_rng(0), (2, 2, 2, 8), np.dtype("<u2"))
    )
    store.save_result("abc", {"best": 0.5})
    return store


def flip(path: Path, position: int) -> Callable[[], object]:
    """Flip a bit of one byte; returns the way back."""
    data = bytearray(path.read_bytes())
    good = bytes(data)
    data[position] ^= 0x10
    path.write_bytes(data)
    return lambda: path.write_bytes(good)


def read_all(run: Run) -> None:
    for image in run.ids:
        run.read_image(image)


def every_file(store: Store) -> list[Path]:
    return sorted(path for path in store.path.rglob("*") if path.is_file())


def test_a_good_store_has_no_problem(store: Store) -> None:
    parts: list[int] = []
    assert verify(store, parts.append) == []
    assert parts == [1, 1]


@pytest.mark.slow
def test_a_flipped_byte_in_any_file_is_listed_with_run_part_and_array(store: Store) -> None:
    for path in every_file(store):
        relative = path.relative_to(store.path).parts
        if relative == ("zarr.json",):
            continue
        size = path.stat().st_size
        if relative[0] == "ledger" and size == 0:
            continue
        for position in (0, size // 3, size // 2, size - 1):
            restore = flip(path, position)
            problems = verify(store)
            restore()
            assert len(problems) == 1, (relative, position, problems)
            problem = problems[0]
            if relative[0] == "ledger" or relative == ("runs", "zarr.json"):
                assert path.name in problem.what
                continue
            if relative in (("results", "zarr.json"), ("tmp", "zarr.json")):
                assert problem.what.startswith(f"{relative[0]}: zarr.json")
                continue
            if relative[0] == "results":
                assert "results/abc.json" in problem.what
                continue
            assert problem.run == "tiny"
            group, names = relative[2], relative[3:]
            if group in ("parts", "text") and names and names != ("zarr.json",):
                assert problem.part == (names[0] if group == "parts" else f"text/{names[0]}")
                assert problem.array == (names[1] if len(names) == 3 else "")
                assert path.name in problem.what


def test_a_flipped_byte_of_the_stores_own_file_is_named_on_opening(store: Store) -> None:
    flip(store.path / "zarr.json", 90)
    with pytest.raises(CorruptError, match=r"store .*: zarr\.json: expected"):
        open_store(store.path)


def test_a_flipped_byte_stops_reading_with_run_part_and_array(store: Store) -> None:
    for name in config().array_names():
        folder = store.path / "runs" / "tiny" / "parts" / PART / name
        for shard in folder.glob("c.*"):
            for position in (0, 20, shard.stat().st_size - 1):
                restore = flip(shard, position)
                run = open_store(store.path).run()
                with pytest.raises(
                    CorruptError, match=f"run tiny, part {PART}, array {name}: file {shard.name}"
                ):
                    read_all(run)
                restore()
    flip(store.path / "runs" / "tiny" / "parts" / PART / "zarr.json", 100)
    with pytest.raises(CorruptError, match=rf"run tiny, part {PART}: zarr\.json: expected crc32c"):
        open_store(store.path).run().read("key", 1, 0)


def test_every_damaged_chunk_is_listed(store: Store) -> None:
    folder = store.path / "runs" / "tiny" / "parts" / PART / "key"
    half = (folder / "c.0.0.0.0").stat().st_size // 2
    for shard, position in (("c.0.0.0.0", 5), ("c.0.0.0.0", half), ("c.1.0.0.0", 5)):
        flip(folder / shard, position)
    problems = verify(store)
    assert [(problem.part, problem.array, problem.what.split(",")[0]) for problem in problems] == [
        (PART, "key", "file c.0.0.0.0"),
        (PART, "key", "file c.0.0.0.0"),
        (PART, "key", "file c.1.0.0.0"),
    ]


def test_a_short_and_a_missing_file(store: Store) -> None:
    folder = store.path / "runs" / "tiny" / "parts" / PART
    os.truncate(folder / "value" / "c.1.0.0.0", 10)
    (folder / "projected" / "c.0.0.0.0").unlink()
    (folder / "vision" / "zarr.json").unlink()
    shutil.rmtree(folder / "text_key")
    whats = {problem.array: problem.what for problem in verify(store)}
    assert set(whats) == {"value", "projected", "vision", "text_key"}
    assert "expected" in whats["value"]
    assert whats["value"].endswith("`kvtool store repair` drops it, then extract again")
    assert whats["projected"].startswith("file c.0.0.0.0 is missing")
    assert whats["vision"] == "file zarr.json is missing"


def test_foreign_files_are_listed_where_they_lie(store: Store) -> None:
    run = store.path / "runs" / "tiny"
    files = {
        store.path / "notes.txt": ("", "", ""),
        run / "notes.txt": ("tiny", "", ""),
        run / "parts" / PART / "notes.txt": ("tiny", PART, ""),
        run / "parts" / PART / "key" / "c.7.0.0.0": ("tiny", PART, "key"),
        store.path / "results" / "notes.txt": ("", "", ""),
    }
    for path in files:
        path.write_text("x")
    (run / "parts" / "mine").mkdir()
    (store.path / "runs" / "mine").mkdir()
    problems = verify(store)
    assert len(problems) == len(files) + 2
    for path, position in files.items():
        assert any((p.run, p.part, p.array) == position and path.name in p.what for p in problems)
    assert any(p.part == "mine" and "not a part" in p.what for p in problems)
    assert any(p.run == "mine" and "cannot be opened" in p.what for p in problems)


def test_images_that_are_there_twice(store: Store) -> None:
    """Only a hand can make such a store: a part copied under another name."""
    parts = store.path / "runs" / "tiny" / "parts"
    shutil.copytree(parts / PART, parts / "0000000-0000009")
    whats = [problem.what for problem in verify(store)]
    assert sum("image with index" in what for what in whats) == 3
    assert sum("image with id" in what for what in whats) == 3
    assert all(PART in what for what in whats)
    assert open_store(store.path).run().ids == [f"image{index}" for index in range(5)]


def test_a_part_of_another_run(store: Store) -> None:
    second = create_run(store, config(name="other", kinds=("key",)))
    source = store.path / "runs" / "tiny" / "parts" / PART
    shutil.copytree(source, second.folder / "parts" / PART)
    shutil.rmtree(second.folder / "parts" / PART / "text_key")
    assert any(problem.run == "other" for problem in verify(store))


def test_what_dead_processes_left_is_no_problem_and_is_swept(store: Store) -> None:
    tmp = store.path / "tmp"
    dead, unknown = f"{dead_process().tag}-0", f"{dead_process(host='elsewhere').tag}-0"
    for name in (dead, unknown, f"{owners.this_process().tag}-99999"):
        (tmp / name / "part").mkdir(parents=True)
    (tmp / "holiday").mkdir()
    assert [problem.what for problem in verify(store)] == ["tmp/holiday: not a file of kvtool"]
    assert store.sweep_tmp() == [dead]
    assert not (tmp / dead).exists()
    assert (tmp / unknown / "part").is_dir()


def test_a_run_that_cannot_be_opened_hides_no_other(store: Store) -> None:
    create_run(store, config(name="zz", view="full"))
    flip(store.path / "runs" / "zz" / "zarr.json", 60)
    (store.path / "runs" / "tiny" / "parts" / PART / "key" / "c.0.0.0.0").unlink()
    assert {problem.run for problem in verify(store)} == {"tiny", "zz"}


def test_problems_are_plain_rows() -> None:
    assert Problem("r", "p", "a", "what").what == "what"
    assert issubclass(CorruptError, StoreError)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_in_place_of_any_file_is_listed_and_waited_for_by_nobody(store: Store) -> None:
    """Opened as a file is, it would wait for a writer for ever; so this reads in another
    process.
    """
    script = (
        "import sys; from kvtool.store import open_store; from kvtool.store.verify import verify"
    )
    script += "; print(len(verify(open_store(sys.argv[1]))))"
    for path in every_file(store):
        if path.name == "zarr.json" or path.stat().st_size == 0:
            continue
        aside = path.rename(store.path.parent / "aside")
        os.mkfifo(path)
        command = [sys.executable, "-c", script, str(store.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        path.unlink()
        aside.rename(path)
        assert (done.returncode, done.stderr) == (0, ""), (path, done.stderr)
        assert int(done.stdout) >= 1, path

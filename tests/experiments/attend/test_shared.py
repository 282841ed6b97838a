"""Pictures are shared by the processes that measure them: nothing is looked at twice, an
interrupted call goes on, and the result is that of one process.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.errors import CorruptError
from kvtool.experiments.attend.pictures import PictureNumbers
from kvtool.store.verify import verify
from tests.experiments.workers import Worker, counts
from tests.support import tiny
from tests.support.concepts import cats_and_dogs

N_IMAGES = 6
VARIANTS: Mapping[str, tuple[object, ...]] = {
    "question": ("--question", "is the {concept} there", "--localization", 2),
    "sinks": ("--sinks", "--layers", "1,2"),
}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of which nothing was asked, beside its model and its pictures."""
    root = tmp_path_factory.mktemp("shared")
    data = cats_and_dogs(root / "coco", N_IMAGES)
    model = str(tiny.llava_onevision(root / "model"))
    kvtool.extract(root / "s.kv", model=model, dataset=f"coco:{data}", dtype="float32")
    return root / "s.kv"


@pytest.fixture
def store(tmp_path: Path, extracted: Path) -> Path:
    return shutil.copytree(extracted, tmp_path / "s.kv")


def attend(store: Path, variant: str, *options: object) -> tuple[object, ...]:
    return ("attend", store, *VARIANTS[variant], "--format", "json", *options)


def kinds(store: Path) -> list[Any]:
    """What is kept in a store: results by command, or records by kind."""
    return sorted(r.get("kind") or r["command"] for r in kvtool.open(store).results())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_processes_share_pictures(tmp_path: Path, store: Path, variant: str) -> None:
    """Two at once, of which one is stopped in its first picture; and two workers of a call."""
    lone, crew = (shutil.copytree(store, tmp_path / f"{name}.kv") for name in ("lone", "crew"))
    code, expected, err = Worker(tmp_path / "lone", "looks", *attend(lone, variant)).end()
    assert code == 0, err
    log = tmp_path / "log"
    first = Worker(log, "looks", *attend(store, variant), stop_at=1).holding()
    code, out, err = Worker(log, "looks", *attend(store, variant)).end()
    assert (code, out) == (0, ""), err
    assert "images are held by others: " in err.splitlines()[-1]
    assert f"process {first.process.pid} on " in err
    assert "looks" in kinds(store)
    assert first.end()[:2] == (0, expected)
    # What is kept is given again.
    assert Worker(log, "looks", *attend(store, variant)).end()[:2] == (0, expected)
    crew_log, command = tmp_path / "crew-log", attend(crew, variant, "--devices", "cpu,cpu")
    code, out, err = Worker(crew_log, "looks", *command).end()
    assert (code, out) == (0, expected), err
    for path in (tmp_path / "lone", log, crew_log):
        assert len(counts(path)) == N_IMAGES
    # Nothing stays of the pictures, and no claim.
    for path in (store, crew):
        assert kinds(path) == kinds(lone)
        assert kvtool.open(path).run().holders() == {}
        assert verify(kvtool.open(path)) == []


@pytest.mark.slow
@pytest.mark.alone
def test_a_killed_process_loses_the_picture_in_hand_alone(tmp_path: Path, store: Path) -> None:
    """In the second half of the pictures, whose measures depend on the first."""
    lone, log = shutil.copytree(store, tmp_path / "lone.kv"), tmp_path / "log"
    expected = Worker(tmp_path / "lone", "looks", *attend(lone, "question")).end()[1]
    Worker(log, "looks", *attend(store, "question"), stop_at=N_IMAGES - 1).holding().kill()
    assert Worker(log, "looks", *attend(store, "question")).end()[:2] == (0, expected)
    assert len(counts(log)) == N_IMAGES + 1
    assert "looks" not in kinds(store)


@pytest.mark.slow
def test_all_is_measured_again_where_that_is_asked_for(tmp_path: Path, store: Path) -> None:
    """And files are written by the caller of several workers, who looks at the pictures again."""
    log = tmp_path / "log"
    Worker(log, "looks", *attend(store, "question"), stop_at=3).holding().kill()
    command = attend(store, "question", "--fresh")
    expected = Worker(log, "looks", *command).end()
    assert expected[0] == 0
    assert len(counts(log)) == 3 + N_IMAGES
    saved = attend(store, "question", "--devices", "cpu,cpu", "--save", tmp_path / "maps")
    assert Worker(log, "looks", *saved).end()[:2] == expected[:2]
    assert len(counts(log)) == 3 + 2 * N_IMAGES
    assert len(list((tmp_path / "maps").iterdir())) == json.loads(expected[1])["n"]


def test_numbers_are_kept_as_they_are() -> None:
    rng = np.random.default_rng(0)
    entries: dict[str, dict[str, Any]] = {
        "a/b.c": {"units": rng.normal(size=(2, 3)), "mass": np.array([1 / 3, np.nan], np.float32)},
        "none": {},
        "c": {"counts": np.array([1, 2**40]), "units": np.full((2, 0), np.inf)},
    }
    record = PictureNumbers(entries, ["a line"]).to_json()
    numbers = PictureNumbers.from_json(record)
    assert numbers.skipped == ["a line"]
    assert list(numbers.entries) == list(entries)
    for name, arrays in entries.items():
        assert numbers.entries[name].keys() == arrays.keys()
        for measure, array in arrays.items():
            copy = numbers.entries[name][measure]
            assert copy.dtype == array.dtype
            np.testing.assert_array_equal(copy, array)
    for damaged in ({"arrays": "AAAA"}, {"arrays": "?"}, {"ids": ["a"]}, {"skipped": 3}):
        with pytest.raises(CorruptError, match="looks at a picture"):
            PictureNumbers.from_json(record | damaged)
    assert PictureNumbers.from_json(PictureNumbers().to_json()) == PictureNumbers()

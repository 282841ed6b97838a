"""SPair-71k as it lies on people's disks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cases.outcomes import change_json, refusal, rows, told
from tests.support import breaking
from tests.support import datasets as builders
from tests.support.shell import Outcome, Shell

ANNOTATIONS, LIST = "PairAnnotation/test", "Layout/large/test.txt"
PAIRS = len(builders.PAIRS)
Change = Callable[[Path], object]
Probed = Callable[..., Outcome]


def pair_files(root: Path) -> list[Path]:
    return sorted((root / ANNOTATIONS).iterdir())


def changed(**fields: Any) -> Change:
    """The first pair's annotation with other fields."""
    return lambda root: change_json(pair_files(root)[0], lambda record: record.update(fields))


@pytest.fixture
def probed(shell: Shell, tiny_model: Path, tmp_path: Path) -> Probed:
    """Extract the data set after a change, and probe it."""

    def run(change: Change) -> Outcome:
        data, store = tmp_path / "data", tmp_path / "s.kv"
        builders.spair(data)
        change(data)
        source = ("--model", tiny_model, "--dataset", f"spair71k:{data}")
        code, _, err = shell("-q", "extract", store, *source, "--kinds", "value", "--layers", 0)
        assert code in (0, 4), err
        return shell("probe", store, "semantic-correspondence", "--format", "json")

    return run


NAN, INFINITE = float("nan"), float("inf")
BROKEN: dict[str, tuple[Change, str]] = {
    "NaN at the source": (
        changed(src_kps=[[NAN, NAN], [30, 20]]),
        "src_kps to be a finite number, found nan",
    ),
    "NaN at the target": (
        changed(trg_kps=[[NAN, 5], [10, 12]]),
        "trg_kps to be a finite number, found nan",
    ),
    "infinite": (
        changed(src_kps=[[INFINITE, -INFINITE], [30, 20]]),
        "to be a finite number, found inf",
    ),
    "null": (
        changed(src_kps=[None, [30, 20]]),
        "expected point 0 of src_kps to be 2 numbers, found None",
    ),
    "outside": (
        changed(src_kps=[[-30, 100_000], [30, 20]]),
        "expected src_kps inside 32 x 24 pixels",
    ),
    "flat box": (changed(trg_bndbox=[5, 5, 5, 5]), "expected trg_bndbox to be a box"),
    "no points": (
        changed(src_kps=[], trg_kps=[], kps_ids=[]),
        "found 0 source and 0 target points",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_pair_is_left_out_and_named(probed: Probed, case: str) -> None:
    change, words = BROKEN[case]
    outcome = probed(change)
    line, end = told(outcome, 4, words)
    assert end.startswith("kvtool: probe: annotations or pictures cannot be used")
    assert f"{ANNOTATIONS}/000001-a1-a2:aeroplane.json" in line
    result = json.loads(outcome[1])
    assert (result["n"], result["n_skipped"], result["n_unusable"]) == (PAIRS - 1, 1, 1)


@pytest.mark.slow
def test_a_picture_that_is_not_there(probed: Probed) -> None:
    outcome = probed(lambda root: (root / "JPEGImages/dog/d1.jpg").unlink())
    told(outcome, 0, "1 pairs need images that the run does not hold")
    assert json.loads(outcome[1])["n"] == PAIRS - 1


def with_marks_and_line_ends(root: Path) -> None:
    """As editors on Windows save them."""
    mark = b"\xef\xbb\xbf"
    for path in pair_files(root):
        path.write_bytes(mark + path.read_bytes())
    (root / LIST).write_bytes(mark + (root / LIST).read_bytes().replace(b"\n", b"\r\n"))


def in_capitals(root: Path) -> None:
    for path in list((root / "JPEGImages").rglob("*.jpg")):
        path.rename(path.with_suffix(".JPG"))


def beside_files_of_a_mac(root: Path) -> None:
    (root / "__MACOSX").mkdir()
    (root / "JPEGImages/.DS_Store").write_bytes(b"x")


def listed_twice(root: Path) -> None:
    (root / LIST).write_text((root / LIST).read_text() * 2)


@pytest.mark.parametrize("change", [with_marks_and_line_ends, in_capitals, beside_files_of_a_mac])
@pytest.mark.slow
def test_what_is_whole_scores_as_released(probed: Probed, change: Change) -> None:
    assert rows(probed(change))[0]["n"] == PAIRS


@pytest.mark.slow
def test_pairs_listed_twice_count_once(probed: Probed) -> None:
    outcome = probed(listed_twice)
    told(outcome, 0, f"{PAIRS} of its lines are listed twice and count once")
    assert json.loads(outcome[1])["n"] == PAIRS


@pytest.mark.slow
def test_pictures_of_half_the_size_are_never_scored(probed: Probed) -> None:
    def shrink(root: Path) -> None:
        for path in (root / "JPEGImages").rglob("*.jpg"):
            breaking.half_size(path)

    assert "says 32 x 24 pixels, the picture has 16 x 12" in refusal(probed(shrink))


@pytest.mark.slow
def test_names_without_their_colon(probed: Probed) -> None:
    """Unpacked on a file system that has no colons: the line knows the cause."""

    def rename(root: Path) -> None:
        for path in pair_files(root):
            path.rename(path.with_name(path.name.replace(":", "_")))

    assert "expected this name with its colon" in refusal(probed(rename))

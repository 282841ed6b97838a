"""A data set that is there in part: what is there is used, what is missing is counted and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.datasets.base import DatasetBase
from tests.support.trees import TREES, open_tree

OPENED = {"pope": "pope"}
"""The folder below a tree's root that is opened, where it is another."""
WITHOUT_FILES = ("blink", "cvbench")
"""Data sets whose pictures lie in rows of a table, or are named by one."""
TRUTHS = ("groups", "entries", "labelled_ids", "pairs", "videos", "questions", "expressions")


def partial_tree(name: str, root: Path) -> tuple[DatasetBase, list[str], list[str]]:
    """Open a tree from which pictures were taken; returns also the ids taken and left."""
    dataset = open_tree(name, TREES[name](root))
    refs = list(dataset.images())
    # Of DAVIS two frames of the second sequence, so that one sequence stays whole.
    removed = refs[1:3] if name == "davis" else refs[::2]
    for ref in removed:
        assert ref.path is not None
        ref.path.unlink()
    left = [ref.id for ref in refs if ref not in removed]
    return open_tree(name, root / OPENED.get(name, "")), [ref.id for ref in removed], left


@pytest.mark.parametrize("name", [name for name in TREES if name not in WITHOUT_FILES])
def test_pictures_that_are_missing_are_counted_and_named(name: str, tmp_path: Path) -> None:
    dataset, absent, left = partial_tree(name, tmp_path / "data")
    assert [ref.id for ref in dataset.present()] == left
    dataset.texts()
    if name == "mme":
        # Its annotations are questions, each of which names its picture.
        dataset.questions()  # type: ignore[attr-defined]
        assert len(dataset.skipped) == len(absent)
        return
    (line,) = [line for line in dataset.notes if " pictures are not there" in line]
    assert f"{len(absent)} of {len(absent) + len(left)} pictures" in line
    listing = line.rpartition(": ")[2]
    # The first of those that are missing, in whichever order the loader lists them.
    assert listing.startswith(tuple(absent))


@pytest.mark.parametrize("name", [name for name in TREES if name not in WITHOUT_FILES])
def test_what_is_there_is_used(name: str, tmp_path: Path) -> None:
    dataset, _, _ = partial_tree(name, tmp_path / "data")
    dataset.present()
    served = [truth for truth in TRUTHS if hasattr(dataset, truth)]
    if name == "own":
        served.remove("videos")  # its only video lost a frame
    assert all(len(getattr(dataset, truth)()) for truth in served)


@pytest.mark.parametrize("name", [name for name in TREES if name not in WITHOUT_FILES])
def test_a_whole_data_set_misses_nothing(name: str, tmp_path: Path) -> None:
    dataset = open_tree(name, TREES[name](tmp_path / "data"))
    dataset.present()
    dataset.texts()
    assert not [line for line in dataset.notes if "not there" in line]

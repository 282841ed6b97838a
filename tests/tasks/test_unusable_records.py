"""A pair, an object or a sentence that cannot be used is left out and counted; what is left scores
as ever. What is listed twice counts once.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvtool.errors import KvtoolError
from kvtool.store import Run
from tests.support import breaking
from tests.support.tasks.runs import RUNS
from tests.support.units import noise, sample, write_run
from tests.tasks.truths import Scene, data_of, scored


def spair_annotations(run: Run) -> list[Path]:
    return sorted((data_of(run) / "PairAnnotation/test").iterdir())


CHANGES: dict[str, dict[str, Any]] = {
    "half-size": {"src_imsize": [40, 30, 3]},
    "turned": {"trg_imsize": [60, 80, 3]},
    "nan": {"src_kps": [[float("nan"), 1]] * 4},
    "infinite": {"trg_kps": [[1e400, -1e400]] * 4},
    "null": {"src_kps": [None] * 4},
    "outside": {"src_kps": [[-30, 100000]] * 4},
    "flat box": {"trg_bndbox": [5, 5, 5, 5]},
    "no points": {"src_kps": [], "trg_kps": [], "kps_ids": []},
}


@pytest.mark.parametrize("damage", [*CHANGES, "missing", "truncated", "empty", "text"])
@pytest.mark.slow
def test_a_broken_pair_is_as_good_as_none(scenes: Callable[[str], Scene], damage: str) -> None:
    scene = scenes("semantic-correspondence")
    path, data = scene.path, scene.path.read_bytes()
    try:
        if damage in CHANGES:
            path.write_text(json.dumps(json.loads(data) | CHANGES[damage]))
        else:
            breaking.FILES[damage](path)
        result = scored(scene.run, "semantic-correspondence")
    finally:
        path.write_bytes(data)
    assert (result.n, result.n_skipped) == (scene.without.n, 1)
    assert result.rows == scene.without.rows
    assert any(str(path) in line for line in result.skipped)


def test_pictures_shrunk_beside_their_annotations_are_never_scored(tmp_path: Path) -> None:
    """Silently, PCK would be that of points at twice their places."""
    run = RUNS["semantic-correspondence"](tmp_path)
    small = [sample(s.id, s.index, (40, 30), (6, 8)) for s in run.samples]
    half = write_run(tmp_path / "half", "spair71k", "test", data_of(run), small, noise(0))
    with pytest.raises(
        KvtoolError, match=r"says 80 x 60 pixels, the picture has 40 x 30"
    ) as caught:
        scored(half, "semantic-correspondence")
    assert str(spair_annotations(run)[0].parent) in str(caught.value)


@pytest.mark.slow
def test_pairs_listed_twice_count_once(tmp_path: Path) -> None:
    run = RUNS["semantic-correspondence"](tmp_path)
    full = scored(run, "semantic-correspondence")
    path = data_of(run) / "Layout/large/test.txt"
    path.write_text(path.read_text() * 2)
    result = scored(run, "semantic-correspondence")
    assert (result.rows, result.n_skipped) == (full.rows, 0)
    assert f"{path}: {full.n} of its lines are listed twice and count once" in result.skipped[0]


@pytest.mark.slow
def test_entries_listed_twice_count_once(tmp_path: Path) -> None:
    run = RUNS["foreground-segmentation"](tmp_path)
    full = scored(run, "foreground-segmentation")
    path = data_of(run) / "splits/pascal/val/fold0.txt"
    path.write_text(path.read_text() * 2)
    result = scored(run, "foreground-segmentation")
    assert (result.rows, result.n_skipped) == (full.rows, 0)
    assert "35 of its lines are listed twice" in result.skipped[0]


SEGMENTATIONS: dict[str, Any] = {
    "no polygon": [],
    "two points": [[1, 2, 3, 4]],
    "odd": [[1, 2, 30, 4, 30, 40, 9]],
    "infinite": [[1, 2, float("inf"), 4, 3, 4]],
    "other size": {"size": [10, 10], "counts": [100]},
    "text": "polygon",
    "none": None,
}


@pytest.mark.sampled
@pytest.mark.parametrize(
    "damage", [*SEGMENTATIONS, "no segmentation", "no annotation", "other width", "no height"]
)
def test_a_broken_object_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    run = RUNS["referring-expression"](tmp_path)
    full = scored(run, "referring-expression")
    path = data_of(run) / "refcoco/instances.json"
    record = json.loads(path.read_text())
    annotation = record["annotations"][0]
    remainder = [a for a in record["annotations"] if a is not annotation]
    image = next(image for image in record["images"] if image["id"] == annotation["image_id"])
    if damage in SEGMENTATIONS:
        annotation["segmentation"] = SEGMENTATIONS[damage]
    elif damage == "no segmentation":
        del annotation["segmentation"]
    elif damage == "no annotation":
        record["annotations"] = remainder
    elif damage == "other width":
        image["width"] *= 2
    else:
        del image["height"]
    path.write_text(json.dumps(record))
    result = scored(run, "referring-expression")
    assert 0 < result.n < full.n
    if damage == "no annotation":
        assert any(
            f"no annotation {annotation['id']} with an image" in line for line in result.skipped
        )
    else:
        assert result.n + result.n_skipped == full.n
        assert all(line.startswith(f"{path}") for line in result.skipped)


@pytest.mark.slow
def test_widths_written_as_texts_are_read(tmp_path: Path) -> None:
    run = RUNS["referring-expression"](tmp_path)
    full = scored(run, "referring-expression")
    path = data_of(run) / "refcoco/instances.json"
    record = json.loads(path.read_text())
    for image in record["images"]:
        image.update(width=str(image["width"]), height=str(image["height"]))
    path.write_text(json.dumps(record))
    assert scored(run, "referring-expression").rows == full.rows


@pytest.mark.slow
def test_sentences_listed_twice_count_once_and_empty_ones_not(tmp_path: Path) -> None:
    run = RUNS["referring-expression"](tmp_path)
    full = scored(run, "referring-expression")
    path = data_of(run) / "refcoco/refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(refs + refs, protocol=2))
    result = scored(run, "referring-expression")
    assert (result.rows, result.n_skipped) == (full.rows, 0)
    assert f"{path}: {full.n} sentences are listed twice and count once" in result.skipped
    refs[0]["sentences"][0]["sent"] = "  "
    path.write_bytes(pickle.dumps(refs, protocol=2))
    result = scored(run, "referring-expression")
    assert (result.n, result.n_skipped) == (full.n - 1, 1)
    assert any(
        f"{path}: ref 0: sentence 0: expected sent to be a text, found {'  '!r}" in line
        for line in result.skipped
    )

"""Frames and indexed annotations of whole sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.demo.layouts.davis import draw_sequence


@pytest.mark.slow
@pytest.mark.parametrize(("split", "n_sequences", "n_frames"), [("train", 1, 8), ("val", 3, 14)])
def test_sequences_are_whole(world: Path, split: str, n_sequences: int, n_frames: int) -> None:
    folder = world / "davis"
    names = (folder / "ImageSets" / "2017" / f"{split}.txt").read_text().splitlines()
    assert len(set(names)) == n_sequences
    for name in names:
        frames = sorted((folder / "JPEGImages" / "480p" / name).iterdir())
        annotations = sorted((folder / "Annotations" / "480p" / name).iterdir())
        assert [path.name for path in frames] == [f"{i:05d}.jpg" for i in range(n_frames)]
        assert [path.name for path in annotations] == [f"{i:05d}.png" for i in range(n_frames)]
        with Image.open(annotations[0]) as first:
            assert first.mode == "P"
            assert (first.getpalette() or [])[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
            ids = np.unique(np.asarray(first))
        assert ids.tolist() == list(range(len(ids)))
        for frame, annotation in zip(frames, annotations, strict=True):
            with Image.open(frame) as image, Image.open(annotation) as mask:
                assert image.size == mask.size == first.size
                assert np.isin(np.asarray(mask), ids).all()


@pytest.mark.slow
def test_annotations_are_the_drawn_things_and_they_move(world: Path) -> None:
    scenes, drawings = draw_sequence(0, "val", 0, 14)
    folder = world / "davis" / "Annotations" / "480p"
    name = next(path.name for path in folder.iterdir() if path.name.endswith("val00"))
    assert name == "-".join([*(thing.category for thing in scenes[0].things), "val00"])
    annotations = [np.asarray(Image.open(path)) for path in sorted((folder / name).iterdir())]
    assert all(
        np.array_equal(ids, drawing.thing_map)
        for ids, drawing in zip(annotations, drawings, strict=True)
    )
    middle = [np.argwhere(ids == 1).mean(axis=0) for ids in (annotations[0], annotations[7])]
    assert np.hypot(*(middle[0] - middle[1])) > 4

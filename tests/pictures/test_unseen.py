"""What a model never saw is hatched, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.datasets.base import ImageRef
from kvtool.pictures.tiles import drawings_of
from kvtool.pictures.unseen import LEGEND, mark_unseen
from kvtool.tasks.saved import Saved
from kvtool.types import GridSpan, Sample
from tests.support.tiny import noise


def span_of(cover: tuple[float, float, float, float]) -> GridSpan:
    return GridSpan("base", 0, (2, 2), 2, cover)


def test_only_what_lies_outside_is_hatched() -> None:
    picture = noise(90, 60, 0)
    marked = np.asarray(mark_unseen(picture, span_of((15.0, 0.0, 75.0, 60.0))))
    pixels = np.asarray(picture)
    np.testing.assert_array_equal(marked[:, 15:75], pixels[:, 15:75])
    for edge in (slice(0, 15), slice(75, 90)):
        assert (marked[:, edge] != pixels[:, edge]).any(axis=-1).mean() > 0.95
        # Lines and what lies between them differ in light.
        assert marked[:, edge].mean(axis=-1).std() > 10


@pytest.mark.parametrize("cover", [(0.0, 0.0, 90.0, 60.0), (-5.0, -9.0, 99.0, 70.0)])
def test_a_picture_that_was_seen_whole_stays(cover: tuple[float, float, float, float]) -> None:
    picture = noise(90, 60, 0)
    assert mark_unseen(picture, span_of(cover)) is picture
    assert mark_unseen(picture, None) is picture


class DrawsItself:
    """A task that hands its picture back."""

    name = "mirror"
    drawing = "itself"

    def draw(self, picture: Image.Image, record: object, folder: Path) -> Image.Image:
        del record, folder
        return picture


@pytest.mark.parametrize("sees_all", [True, False])
def test_drawings_are_of_marked_pictures_and_the_legend_says_so(
    tmp_path: Path, sees_all: bool
) -> None:
    noise(80, 40).save(tmp_path / "a.png")
    cover = (0.0, 0.0, 80.0, 40.0) if sees_all else (20.0, 0.0, 60.0, 40.0)
    sample = Sample(
        id="a",
        index=0,
        image_wh_px=(80, 40),
        n_tokens=4,
        spans=(span_of(cover),),
        n_vision_tokens=0,
        vision_spans=(),
        prefix="",
        prefix_ids=(),
        image_start=0,
        next_position=4,
    )
    saved = Saved(DrawsItself(), [{"image": "a"}], tmp_path, {"a": sample})
    drawings = drawings_of(saved, {"a": ImageRef("a", tmp_path / "a.png")}, {"a"})
    assert [text for _, text in drawings.legend] == ([] if sees_all else [LEGEND])
    tile = np.asarray(drawings.units[0](80).picture)
    pixels = np.asarray(noise(80, 40))
    assert np.array_equal(tile, pixels) == sees_all
    assert np.array_equal(tile[:, 25:55], pixels[:, 25:55])

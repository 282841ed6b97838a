"""Pixels under a mask are tinted and no others, lines end where they should, and a sheet's texts
fit.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kvtool.pictures.contact_sheet import CAPTION_PX, ContactSheet, Tile, font, shorten, wrap
from kvtool.pictures.overlays import (
    CASING,
    OBJECTS,
    RIGHT,
    TINT,
    TRUTH,
    VOID,
    WRONG,
    dashes,
    draw_masks,
    draw_matches,
    fit,
    mask_marks,
    match_marks,
    side_by_side,
)
from tests.support.tiny import noise


def test_only_what_is_predicted_is_tinted() -> None:
    picture = noise(90, 60, 0)
    ids = np.zeros((60, 90), np.uint8)
    ids[10:40, 20:50], ids[30:55, 60:80], ids[0:5, 0:5] = 1, 2, VOID
    pixels, overlay = (np.asarray(image, int) for image in (picture, draw_masks(picture, ids)))
    outside = (ids == 0) | (ids == VOID)
    np.testing.assert_array_equal(overlay[outside], pixels[outside])
    for number in (1, 2):
        inner = np.zeros(ids.shape, bool)
        inner[(slice(12, 38), slice(22, 48)) if number == 1 else (slice(32, 53), slice(62, 78))] = (
            True
        )
        tinted = (1 - TINT) * pixels[inner] + TINT * np.array(OBJECTS[number - 1])
        assert np.abs(overlay[inner] - tinted).max() <= 0.5
        assert (overlay[inner] != pixels[inner]).any(axis=-1).mean() > 0.95
    assert (overlay[10, 20:50] == OBJECTS[0]).all()


def test_the_truth_is_an_outline_with_a_dark_casing() -> None:
    picture = noise(90, 60, 0)
    truth = np.zeros((60, 90), np.uint8)
    truth[10:40, 20:50] = 1
    pixels, overlay = np.asarray(picture), np.asarray(draw_masks(picture, None, truth))
    assert (overlay[10, 20:50] == TRUTH).all()
    assert (overlay[9, 20:50] == CASING).all()
    np.testing.assert_array_equal(overlay[11:39, 21:49], pixels[11:39, 21:49])
    np.testing.assert_array_equal(overlay[:9], pixels[:9])


def test_a_mask_is_scaled_with_its_picture() -> None:
    ids = np.zeros((30, 45), np.uint8)
    ids[10:20, 15:30] = 1
    picture = fit(noise(45, 30, 1), 180)
    assert picture.size == (180, 120)
    changed = (np.asarray(draw_masks(picture, ids)) != np.asarray(picture)).any(axis=-1)
    assert not changed[:40].any()
    assert not changed[80:].any()
    assert changed[40:80, 60:120].mean() > 0.95
    assert changed.sum() == changed[40:80, 60:120].sum()


@pytest.mark.parametrize("right", [True, False])
def test_a_match_ends_at_the_point_found(right: bool) -> None:
    """Source at half its size, target at twice: points are those of the originals."""
    grey = (120, 120, 120)
    sizes = (800, 600), (200, 150)
    pictures = Image.new("RGB", (400, 300), grey), Image.new("RGB", (400, 300), grey)
    overlay = np.asarray(
        draw_matches(pictures, sizes, [(100, 200)], [(150, 60)], [(30, 120)], [right])
    )
    plain = np.asarray(side_by_side(pictures))
    colour = RIGHT if right else WRONG
    start_x = 400 + 8
    assert (overlay[100, 50] == colour).all()
    assert (overlay[120, start_x + 300] == colour).all()
    changed = np.argwhere((overlay != plain).any(axis=-1))
    assert changed[:, 1].max() <= start_x + 300 + 8
    ring = overlay[240 - 9 : 240 + 10, start_x + 60 - 9 : start_x + 60 + 10]
    assert (ring == TRUTH).all(axis=-1).any()
    assert (overlay[240, start_x + 60] == grey).all()
    points = [
        (round(100 + 20 * t), round(50 + (start_x + 250) * t)) for t in np.linspace(0.1, 0.9, 200)
    ]
    hits = [
        np.abs(overlay[y - 2 : y + 3, x].astype(int) - colour).sum(axis=-1).min() < 110
        for y, x in points
    ]
    assert np.mean(hits) > 0.95 if right else 0.4 < np.mean(hits) < 0.8


def test_a_broken_line_ends_at_its_end() -> None:
    pieces = np.array(dashes((0, 0), (30, 40), 12, 8))
    np.testing.assert_allclose(pieces[-1, 1], (30, 40))
    assert np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=1).round(6).tolist() == [10, 12, 12]
    assert dashes((1, 1), (2, 2), 12, 8) == [((1, 1), (2, 2))]


@pytest.mark.slow
def test_a_sheet_holds_every_tile_and_cuts_texts_that_do_not_fit() -> None:
    pictures = [noise(300, 200 - 10 * i, i) for i in range(5)]
    tiles = [
        Tile(picture, (f"image {i}", "a very long sentence " * 9))
        for i, picture in enumerate(pictures)
    ]
    sheet = ContactSheet(tiles, 2, "a title " * 30, [*mask_marks(2), *match_marks()])
    pixels = np.asarray(sheet.picture)
    for index, picture in enumerate(pictures):
        x, y = sheet.corner_px(index)
        np.testing.assert_array_equal(
            pixels[y : y + picture.height, x : x + picture.width], np.asarray(picture)
        )
    ends = [sheet.corner_px(index)[0] + 300 for index in range(5)]
    assert max(ends) < sheet.picture.width
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, -20:] == 255).all()


@pytest.mark.slow
def test_texts() -> None:
    face = font(CAPTION_PX)
    assert shorten("short", face, 500) == "short"
    assert shorten("line\nbreak", face, 500) == "line break"
    cut = shorten("x" * 500, face, 200)
    assert cut.endswith("...")
    assert face.getlength(cut) <= 200
    lines = wrap("some words and " + "y" * 200, face, 150)
    assert all(face.getlength(line) <= 150 for line in lines)
    assert lines[0] == "some words and"

"""Heat over a picture: where a patch is strong the picture is red, elsewhere it is gray."""

from __future__ import annotations

import numpy as np
from PIL import Image

from kvtool.pictures.heat import HOT, STRONGEST, draw_heat

GRAY = (100, 100, 100)


def heat(values: list[list[float]], cover: tuple[float, float, float, float]) -> np.ndarray:
    picture = draw_heat(Image.new("RGB", (60, 40), GRAY), np.array(values), cover, 120)
    assert picture.size == (120, 80)
    return np.asarray(picture, int)


def covered(share: float) -> np.ndarray:
    return np.rint((1 - share) * np.array(GRAY) + share * np.array(HOT))


def test_the_strongest_patch_is_the_reddest() -> None:
    pixels = heat([[0.0, 1.0, 2.0], [np.nan, -3.0, 4.0]], (0, 0, 60, 40))
    shares = np.array([[0, 0.25, 0.5], [0, 0, 1]]) * STRONGEST
    for (row, col), share in np.ndenumerate(shares):
        patch = pixels[40 * row : 40 * (row + 1), 40 * col : 40 * (col + 1)].reshape(-1, 3)
        assert len(np.unique(patch, axis=0)) == 1, "a patch is of one color, up to its edge"
        assert np.abs(patch[0] - covered(share)).max() <= 1


def test_patches_of_a_part_leave_the_rest() -> None:
    pixels = heat([[1.0]], (20, 10, 40, 30))
    is_red = (pixels != GRAY).any(axis=2)
    assert is_red[20:60, 40:80].all()
    assert is_red.sum() == 40 * 40


def test_patches_beyond_the_picture_are_cut() -> None:
    pixels = heat([[1.0, 0.0]], (-30, -10, 60, 50))
    is_red = (pixels != GRAY).any(axis=2)
    assert is_red[:, :30].all()
    assert not is_red[:, 30:].any()


def test_nothing_strong_leaves_the_picture_gray() -> None:
    for value in (0.0, np.nan, -1.0):
        assert (heat([[value] * 3], (0, 0, 60, 40)) == GRAY).all()

"""Pictures of components: what is alike looks alike, what is input-agnostic is framed, and all of
it fits a page.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.errors import KvtoolError
from kvtool.experiments.variance.run import variance
from kvtool.pictures.components import FRAME, FRAME_PX, Sheet, rgb
from tests.support.keys import Array, planted, samples, write

CONSTANT = [(0, 0), (1, 1), (4, 0), (5, 1)]


def cell(picture: Array, sheet: Sheet, column: int, head: int) -> Array:
    """The pixels of a block, a frame's width around it too."""
    x, y = sheet.corner_px(column, head)
    width, height = sheet.cell_px
    return picture[y - FRAME_PX : y + height + FRAME_PX, x - FRAME_PX : x + width + FRAME_PX]


@pytest.mark.slow
def test_two_images_of_a_run(tmp_path: Path) -> None:
    run = planted(tmp_path / "s", 12, CONSTANT, layers=8, heads=2)
    ids = ["folder/image 7", "folder/image 2"]
    result = variance(run, pca=ids, out=tmp_path / "made" / "pictures")
    paths = [Path(path) for path in result.config["pictures"]]
    assert [path.name for path in paths] == [
        "0000007-folder_image_7-key.png",
        "0000002-folder_image_2-key.png",
    ]
    pictures = [np.asarray(Image.open(path)) for path in paths]
    sheet = Sheet((3, 4), 8, 2)
    assert pictures[0].shape == (*sheet.picture.size[::-1], 3)
    for column in range(8):
        for head in range(2):
            first, second = (cell(picture, sheet, column, head) for picture in pictures)
            framed = bool((first[0, 0] == FRAME).all() and (first[-1, -1] == FRAME).all())
            assert framed == ((column, head) in CONSTANT)
            inner = slice(FRAME_PX, -FRAME_PX)
            assert bool((first[inner, inner] == second[inner, inner]).all()) == framed
            assert len(np.unique(first[inner, inner].reshape(-1, 3), axis=0)) == 12


def test_without_a_cut_nothing_is_framed(tmp_path: Path) -> None:
    run = planted(tmp_path / "s", 4, layers=3, heads=1)
    result = variance(run, pca=[run.ids[0]], out=tmp_path / "p")
    (path,) = result.config["pictures"]
    assert not (np.asarray(Image.open(path)) == FRAME).all(axis=-1).any()
    assert "pictures" not in variance(run).config


@pytest.mark.parametrize(
    ("layers", "heads", "grid"), [(28, 4, (27, 27)), (8, 2, (12, 12)), (32, 8, (24, 24))]
)
def test_a_sheet_is_readable(layers: int, heads: int, grid: tuple[int, int]) -> None:
    """Every token has a pixel or more, cells do not touch, and all fit a wide screen."""
    sheet = Sheet(grid, layers, heads)
    assert sheet.scale >= 1
    assert sheet.picture.width <= 1920
    assert sheet.cell_px[0] >= 24
    assert sheet.corner_px(1, 0)[0] - sheet.corner_px(0, 0)[0] >= sheet.cell_px[0] + 2 * FRAME_PX
    assert sheet.corner_px(0, 1)[1] - sheet.corner_px(0, 0)[1] >= sheet.cell_px[1] + 2 * FRAME_PX
    assert sheet.corner_px(layers - 1, heads - 1)[0] + sheet.cell_px[0] <= sheet.picture.width


def test_colours_are_the_first_three_components() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, (500, 3)) * [9, 4, 2]
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0][:3]
    colours = rgb((5 + scores @ axes + rng.normal(0, 0.01, (500, 6))).astype(np.float32)).astype(
        float
    )
    for component in range(3):
        assert abs(np.corrcoef(colours[:, component], scores[:, component])[0, 1]) > 0.99
    assert (colours.min(), colours.max()) == (0, 255)


def test_what_does_not_vary_is_grey() -> None:
    assert (rgb(np.full((12, 8), 7.3, np.float32)) == 128).all()
    assert rgb(np.array([[np.nan, 1], [0, 1], [3, np.inf]], np.float32)).shape == (3, 3)


def test_the_order_of_ids_and_repeats_do_not_matter(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(8, 2, 2, 12, 8))
    run = write(tmp_path / "s", samples(8), values, part_size=3)
    first = variance(run, pca=[run.ids[7], run.ids[0], run.ids[7]], out=tmp_path / "a").config[
        "pictures"
    ]
    second = variance(run, pca=[run.ids[0], run.ids[7]], out=tmp_path / "b").config["pictures"]
    assert len(first) == 2
    pixels = {Path(path).name: np.asarray(Image.open(path)).astype(int) for path in first}
    for path in second:
        assert np.abs(np.asarray(Image.open(path)) - pixels[Path(path).name]).max() <= 1


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = planted(tmp_path / "s", 3, layers=2, heads=1)
    with pytest.raises(
        KvtoolError, match=r"variance: -o: .*file.* cannot be written: Not a directory"
    ):
        variance(run, pca=[run.ids[0]], out=tmp_path / "file" / "under")

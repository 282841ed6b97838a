"""Masks as polygons and run lengths: pycocotools reads back what was drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from scipy import ndimage

from kvtool.demo.layouts.files import border, label_palette, polygons, run_lengths, stream

# pycocotools' decoder speaks to NumPy 2 in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


@pytest.mark.slow
@given(masks)
def test_run_lengths_decode_to_the_mask(mask: npt.NDArray[np.bool_]) -> None:
    encoded = run_lengths(mask)
    assert sum(encoded["counts"]) == mask.size
    packed = coco_mask.frPyObjects(encoded, *mask.shape)
    assert np.array_equal(coco_mask.decode(packed), mask)


@pytest.mark.slow
@given(masks)
def test_polygons_decode_to_the_mask_or_refuse_holes(mask: npt.NDArray[np.bool_]) -> None:
    outlines = polygons(mask)
    # A hole is a background region (8-connected) that does not reach the frame.
    _, n_background = ndimage.label(~np.pad(mask, 1), structure=np.ones((3, 3)))
    if outlines is None:
        assert n_background > 1 or not mask.any()
        return
    assert n_background == 1
    assert len(outlines) == ndimage.label(mask)[1]
    filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(outlines, *mask.shape)))
    assert np.array_equal(filled, mask)


def test_palette_is_that_of_voc() -> None:
    colors = np.asarray(label_palette()).reshape(256, 3).tolist()
    assert colors[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colors[8] == [64, 0, 0]
    assert colors[15] == [192, 128, 128]
    assert colors[255] == [224, 224, 192]


def test_border_runs_between_regions() -> None:
    labels = np.asarray([[0, 0, 1], [0, 0, 1], [2, 2, 2]])
    assert border(labels).tolist() == [
        [False, True, False],
        [True, True, True],
        [False, False, False],
    ]


def test_streams_differ_by_name_and_seed_and_repeat() -> None:
    first = stream(0, "coco", 1).integers(2**31)
    assert first == stream(0, "coco", 1).integers(2**31)
    assert (
        len({first, stream(1, "coco", 1).integers(2**31), stream(0, "coco", 2).integers(2**31)})
        == 3
    )

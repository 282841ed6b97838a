"""What a stored cache must hold before a decoder goes on from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvtool.errors import UsageError
from kvtool.geometry import Geometry
from kvtool.models.stored_cache import check_stored

EQUAL = Geometry(4, 2, 2, 8, 16, 1, 8)
UNLIKE = Geometry(4, 2, 2, 16, 16, 1, 8, by_layer=((2, 8), (1, 16), (2, 8), (1, 16)))
"""Two layers of either shape."""


def image(geometry: Geometry, kinds: tuple[str, ...] = ("key", "value"), token: int = 3) -> Any:
    """The arrays of an image with two tokens of text before it."""
    arrays = {}
    for kind in kinds:
        for array in geometry.cache_arrays(kind, range(geometry.layers)):
            layers = len(array.layers)
            arrays[array.name] = np.zeros((layers, array.heads, token, array.dim))
            arrays[f"text_{array.name}"] = np.zeros((layers, array.heads, 2, array.dim))
    return arrays


@pytest.mark.parametrize("geometry", [EQUAL, UNLIKE])
def test_whole_caches_are_accepted(geometry: Geometry) -> None:
    check_stored(geometry, [image(geometry), image(geometry)])


@pytest.mark.parametrize("geometry", [EQUAL, UNLIKE])
@pytest.mark.parametrize(
    ("kinds", "absent"),
    [(("key",), "no value"), (("value",), "no key"), ((), "no key and no value")],
)
def test_a_kind_that_is_not_stored_is_named(
    geometry: Geometry, kinds: tuple[str, ...], absent: str
) -> None:
    # Also where a single image lacks it.
    for images in ([image(geometry, kinds)], [image(geometry), image(geometry, kinds)]):
        with pytest.raises(UsageError) as caught:
            check_stored(geometry, images)
        assert str(caught.value) == (
            f"cache: expected keys and values, found {absent}; extract with --kinds key,value"
        )


def test_layers_of_one_shape_do_not_stand_for_those_of_another() -> None:
    arrays = image(UNLIKE)
    for name in ("key_1x16", "value_1x16"):
        del arrays[name], arrays[f"text_{name}"]
    for images in ([arrays], [image(UNLIKE), arrays]):
        with pytest.raises(UsageError, match=r"cache: expected 4 layers .* extract every layer"):
            check_stored(UNLIKE, images)


def test_images_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"equal numbers of tokens, found shapes .* \(4, 2, 6, 8\)"
    ):
        check_stored(EQUAL, [image(EQUAL), image(EQUAL, token=4)])

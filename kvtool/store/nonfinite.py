"""Values that are not finite: they are counted while a part is written, and told in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from kvtool.display import numbered
from kvtool.store.encoding import Bits

if TYPE_CHECKING:
    from kvtool.store.manifest import RunConfig

WHAT = "values that are not finite"
"""How every message calls them."""

StoredBlock = tuple[str, int, int]
"""(array, layer, head): a kind, text_key or text_value (the prompt before the image), or text
(class names and expressions); the model's numbers.
"""

_INFINITY_BITS = {"uint16": 0x7F80, "float16": 0x7C00, "float32": 0x7F800000}
"""Bits of +infinity by stored type (uint16: bfloat16): the exponent all ones.

NaN has greater ones.
"""


def count_nonfinite(values: Bits) -> int:
    """Return how many of some stored values (contiguous) are NaN or infinite.

    Bits are compared, not numbers. As signed integers, those of NaN and infinity of positive sign
    are the greatest of all; as unsigned ones, those of negative sign: two maxima say whether there
    is any, in no memory and at a tenth of the price of numpy.isfinite.
    """
    # The same bytes in two readings: no copy, and a maximum of each is enough.
    unsigned = values.view(f"u{values.itemsize}")
    signed = unsigned.view(f"i{values.itemsize}")
    infinity = _INFINITY_BITS[values.dtype.name]
    sign = 1 << (8 * values.itemsize - 1)
    if not values.size or (signed.max() < infinity and unsigned.max() < infinity + sign):
        return 0
    # Only now are they counted, without the sign, whose bit tells nothing.
    return int(np.count_nonzero(unsigned & (sign - 1) >= infinity))


def records(counts: Sequence[int], heads: int) -> list[list[int]]:
    """[layer position, head, count] where there are any; counts (layer * head) in C order."""
    return [[*divmod(block, heads), count] for block, count in enumerate(counts) if count]


def blocks(stored: Iterable[StoredBlock]) -> set[StoredBlock]:
    """Return the (kind, layer, head) of stored blocks; texts count for the kind of their
    geometry.
    """
    kinds = {"text_key": "key", "text_value": "value", "text": "value"}
    return {(kinds.get(array, array), layer, head) for array, layer, head in stored}


def describe(stored: Iterable[StoredBlock], config: RunConfig) -> str:
    """Return blocks in words, e.g. "value: layers 3-5, all heads; layer 7, head 2".

    Neighboring layers with the same heads are told together.
    """
    # Grouped by array and layer, in which the model's numbers are in order.
    heads_at: dict[str, dict[int, list[int]]] = {}
    for array, layer, head in sorted(set(stored)):
        heads_at.setdefault(array, {}).setdefault(layer, []).append(head)
    return ", and ".join(
        f"{array}: {'; '.join(_layer_groups(array, heads_at_layer, config))}"
        for array, heads_at_layer in heads_at.items()
    )


def _layer_groups(
    array: str, heads_at: Mapping[int, Sequence[int]], config: RunConfig
) -> list[str]:
    # Layers with the same heads are told together.
    words = {
        layer: _heads(heads, config.count_heads(array, layer)) for layer, heads in heads_at.items()
    }
    groups = groupby(words, key=words.__getitem__)
    return [f"{numbered('layer', list(layers))}{heads}" for heads, layers in groups]


def _heads(heads: Sequence[int], n_heads: int) -> str:
    if n_heads == 1:
        return ""
    return ", all heads" if len(heads) == n_heads else f", {numbered('head', heads)}"

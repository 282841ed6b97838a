"""Every head alone: what a text says with each single head blocked, all heads in one pass.

What stands before a head's layer is the same whether the head is blocked or not. So the text runs
once without a knockout, and at the layer of a head a further row branches off it, in which the head
is blocked: a layer runs no row of a head that lies above it, and all rows of a layer run together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from kvtool.models.attention import acting
from kvtool.models.base import LanguageModel
from kvtool.models.cache import widen
from kvtool.models.decoder_geometry import readers
from kvtool.models.knockout import Blocked, group_heads
from kvtool.models.methods import Head
from kvtool.models.placement import device_of
from kvtool.types import Sample

ROWS_BYTES = 2**30
"""What keys, values and masks of the rows of one layer take at most, unless one row takes more."""


@torch.inference_mode()
def single_head_logits(
    model: LanguageModel, cache: Any, sample: Sample, text: str, heads: Sequence[Head]
) -> torch.Tensor:
    """Compute what follows a text after an image, without a knockout and with each head alone
    blocked from the image.

    The cache stays as it was. Raises UsageError for heads the decoder does not have.

    Args:
        model: A loaded model.
        cache: Of the prompt up to the image, one row, as `restore` builds it.
        sample: The image.
        text: What follows the image.
        heads: (layer, kv_head) in the order of their layers.

    Returns:
        The last token's logits, a float32 tensor on the CPU, (1 + head, vocabulary): first those
        without a knockout.
    """
    n_rows = rows_at_once(model, cache, len(model.token_ids(text)))
    logits: list[torch.Tensor] = []
    for start in range(0, len(heads), n_rows):
        chunk = heads[start : start + n_rows]
        with _branching(model, sample, chunk):
            chunk_logits = model.logits(cache, [sample], text, last=True)
        # Each chunk begins with the row without a knockout.
        logits.append(chunk_logits if not logits else chunk_logits[1:])
    return torch.cat(logits)


def rows_at_once(model: LanguageModel, cache: Any, n_queries: int) -> int:
    """Return how many rows run together."""
    geometry = model.info.geometry
    n_keys = cache.get_seq_length() + n_queries
    # Keys and values of four bytes a number, a mask of bools, and the same as numbers to add.
    key_bytes = 8 * geometry.kv_heads * geometry.head_dim
    row_bytes: int = n_keys * (key_bytes + 5 * geometry.q_heads * n_queries)
    return max(1, ROWS_BYTES // row_bytes)


@contextmanager
def _branching(model: LanguageModel, sample: Sample, heads: Sequence[Head]) -> Iterator[None]:
    """Within, a pass of one row gets a further row at the layer of each head, where it is
    blocked.
    """
    geometry, layers = model.info.geometry, model.language_model.layers
    reading = readers(model.language_model.config)
    # Where layers read the keys of another one, they need as many rows as it has: all from the
    # first layer on.
    is_shared = any(len(numbers) > 1 for numbers in reading.values())
    starts = [0 if is_shared else layer for layer, _ in heads]
    n_new = [starts.count(number) for number in range(len(layers))]
    n_rows = [1 + n for n in accumulate(n_new)]
    blocked = _blocked(heads, geometry.q_heads, n_rows, model)
    start, stop = torch.tensor([[sample.image_start]]), torch.tensor([[model.image_end(sample)]])
    acts = {
        number: Blocked(mask, start, stop).to(device_of(layers[number]))
        for number, mask in blocked.items()
    }
    handles = [
        handle
        for number, layer in enumerate(layers)
        for handle in _branch(layer, number, n_new[number], n_rows[number])
    ]
    try:
        with acting(model, acts):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _blocked(
    heads: Sequence[Head], q_heads: int, n_rows: Sequence[int], model: LanguageModel
) -> Mapping[int, torch.Tensor]:
    """Return by layer which query heads are blocked in which row, (row, q_head) bool."""
    reading = readers(model.language_model.config)
    blocked: dict[int, torch.Tensor] = {}
    for row, head in enumerate(heads, 1):
        (mask,) = group_heads([head], model.info.geometry).values()
        for reader in reading[head[0]]:
            rows = blocked.setdefault(
                reader, torch.zeros(n_rows[reader], q_heads, dtype=torch.bool)
            )
            rows[row] = mask
    return blocked


def _branch(layer: nn.Module, number: int, n_new: int, n_rows: int) -> Iterator[Any]:
    """Make a layer run `n_rows` rows, the last `n_new` of which are new and begin as the first row
    is; yields the handles of its hooks.
    """
    # Empty where a layer has no cache of its own, but reads another one's.
    before: list[Any] = []
    spot = slice(number, number + 1)

    def enter(_: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Append the new rows, and let the layer's cache have as many."""
        states, *inputs = arguments
        states = torch.cat([states, states[:1].expand(n_new, *states.shape[1:])])
        cached = options["past_key_values"].layers
        before[:] = cached[spot]
        cached[spot] = map(copy, before)
        for cache_layer in cached[spot]:
            widen(cache_layer, n_rows)
        return (states, *inputs), options

    def leave(_: Any, __: Any, options: dict[str, Any], ___: Any) -> None:
        """Give back what the rows' keys and values took."""
        options["past_key_values"].layers[spot] = before

    register: Callable[..., Any] = layer.register_forward_pre_hook
    yield register(enter, with_kwargs=True)
    yield layer.register_forward_hook(leave, with_kwargs=True)

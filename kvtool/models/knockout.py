"""Attention knockout: text after an image may not look at the image in chosen heads.

The method is that of Geva et al. 2023.

What is blocked are pairs: a query of a token after the image, a key of a token of the image, in the
query heads that share a (layer, kv_head). Text keys of these heads stay visible, and no image
token's state changes, since image tokens never see what follows them: one cache of the image serves
every set of heads.

Layers without a blocked head run sdpa as it is; the others run it with a boolean mask for each
query head, see kvtool.models.attention.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kvtool.errors import UsageError
from kvtool.models.attention import AttentionCall, acting
from kvtool.models.base import LanguageModel
from kvtool.models.decoder_geometry import readers
from kvtool.models.methods import Head
from kvtool.models.placement import device_of
from kvtool.types import Geometry, Sample


@dataclass(frozen=True)
class Blocked:
    """What one layer's queries may not see: of each row the image's positions, and the query heads
    concerned.
    """

    q_heads: torch.Tensor
    """(q_head,) bool, or (row, q_head)."""
    starts: torch.Tensor
    """(row, 1), or (1, 1) for all rows: position of the image's first token in the cache."""
    stops: torch.Tensor
    """Position of the first token after it, of the same shape."""

    def to(self, device: torch.device) -> Blocked:
        """Return the same on a device."""
        return Blocked(self.q_heads.to(device), self.starts.to(device), self.stops.to(device))

    def __call__(self, call: AttentionCall) -> torch.Tensor:
        """Return what is visible of it, (row, q_head, query, key) bool."""
        # The queries are the last positions of the cache.
        n_queries, n_keys = call.queries.shape[2], call.keys.shape[2]
        keys = torch.arange(n_keys, device=self.starts.device)
        queries = keys[n_keys - n_queries :]
        # Only text after the image is blocked, and only from the image: what stands before it stays
        # visible.
        is_image = (self.starts <= keys) & (keys < self.stops)
        blocked = (queries >= self.stops)[:, :, None] & is_image[:, None]
        return call.visible() & ~(blocked[:, None] & self.q_heads[..., None, None])


@contextmanager
def knocked_out(
    model: LanguageModel, samples: Sequence[Sample], heads: Iterable[Head]
) -> Iterator[None]:
    """Within, tokens after the image do not see the image's tokens in `heads`, in all query heads
    of each group.

    samples: of the cache's rows, or one where all rows are about one image. LLaVA's newline after a
    base view is a token of the image, as in transformers' prompt. Raises UsageError for heads the
    decoder does not have.
    """
    by_layer = group_heads(heads, model.info.geometry)
    # (row, 1): each row of the cache has its image at a place of its own.
    starts = torch.tensor([[sample.image_start] for sample in samples])
    stops = torch.tensor([[model.image_end(sample)] for sample in samples])
    layers = model.language_model.layers
    reading = readers(model.language_model.config)
    # A head is blocked in every layer that reads its keys and values; layers of one model may stand
    # on several devices.
    blocked = {
        reader: Blocked(mask, starts, stops).to(device_of(layers[reader]))
        for layer, mask in by_layer.items()
        for reader in reading[layer]
    }
    with acting(model, blocked):
        yield


def group_heads(heads: Iterable[Head], geometry: Geometry) -> dict[int, torch.Tensor]:
    """Return layer -> (q_head,) bool, true for query heads of chosen KV heads.

    Raises UsageError for a head out of range.
    """
    kv_heads_of: defaultdict[int, set[int]] = defaultdict(set)
    for layer, kv_head in heads:
        check_head(layer, kv_head, geometry)
        kv_heads_of[layer].add(kv_head)
    masks = {}
    for layer in sorted(kv_heads_of):
        # Neighboring query heads share a KV head.
        group = geometry.q_heads // geometry.shape(layer)[0]
        kv_head_numbers = [q_head // group for q_head in range(geometry.q_heads)]
        masks[layer] = torch.tensor([n in kv_heads_of[layer] for n in kv_head_numbers])
    return masks


def check_head(layer: int, kv_head: int, geometry: Geometry) -> None:
    """Raises UsageError unless the decoder has the head."""
    if not 0 <= layer < geometry.layers:
        raise UsageError(
            f"heads: expected layer from 0 to {geometry.layers - 1} in this model, found {layer}"
        )
    count, _ = geometry.shape(layer)
    if not count:
        raise UsageError(
            f"heads: {geometry.without_cache(layer)}: expected one of "
            f"{', '.join(map(str, geometry.cached_layers))}"
        )
    if not 0 <= kv_head < count:
        raise UsageError(
            f"heads: expected kv_head from 0 to {count - 1} in this model, found {kv_head}"
        )

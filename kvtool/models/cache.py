"""Capture: a cache that hands out what passes through it, and hooks for what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from threading import get_ident
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.cache_utils import LinearAttentionCacheLayerMixin as LinearAttention

from kvtool.geometry import LayerArray
from kvtool.models.base import Array
from kvtool.models.device import HostBuffer

WHOLE_LAYER: Any = DynamicLayer
"""Of a cache that holds every token."""


class Finished(Exception):  # noqa: N818  a signal, not an error
    """Raised within a pass once all that was asked for has been seen; the rest is skipped."""


@contextmanager
def until_finished() -> Iterator[None]:
    """Context in which a pass may end early, by Finished."""
    with suppress(Finished):
        yield


class CaptureCache(Cache):
    """Copies keys and values of chosen layers to host memory, text and image tokens apart, and
    keeps nothing.

    Every decoder hands its keys, after the rotary embedding, and its values to `Cache.update`,
    whatever the attention backend. At the last layer asked for `update` ends the pass: its
    attention, its MLP and what lies above are never run.
    """

    takes_keys = True
    """Whether keys are taken as they pass."""

    def __init__(
        self,
        arrays: Mapping[str, Sequence[LayerArray]],
        parts: Mapping[str, slice],
        ends: bool = True,
        states: Cache | None = None,
    ) -> None:
        """Make room for keys and values.

        Args:
            arrays: Those to keep of "key" and "value".
            parts: Token ranges by name.
            ends: Whether the pass ends here, or goes on to what else is watched.
            states: A new cache of the decoder, which takes the states of linear attention.
        """
        super().__init__(layer_class_to_replicate=DynamicLayer)
        # Layers of linear attention keep their states in the cache, whatever is captured.
        if states is not None:
            self.layers = states.layers
        layers = {layer for listed in arrays.values() for array in listed for layer in array.layers}
        self.last = max(layers) if ends else None
        self.parts = parts
        self.buffers = {
            (part, array.name): HostBuffer(len(array.layers))
            for part in parts
            for listed in arrays.values()
            for array in listed
        }
        # Of each kind and layer the array that holds it, and the layer's row there.
        self.places = {
            (name, layer): (array.name, row)
            for name, listed in arrays.items()
            for array in listed
            for row, layer in enumerate(array.layers)
        }

    def keep(self, name: str, layer: int, states: torch.Tensor) -> None:
        """Copy one layer's states, (image, kv_head, token, dim), where they were asked for."""
        if (name, layer) not in self.places:
            return
        array, row = self.places[name, layer]
        for part, tokens in self.parts.items():
            self.buffers[part, array].put(row, states[:, :, tokens])

    def arrays(self, part: str) -> dict[str, list[Array]]:
        """Return what was kept of a part: by array one for each image, (layer, head, token,
        dim).
        """
        buffers = {name: buffer for (owner, name), buffer in self.buffers.items() if owner == part}
        return {name: buffer.arrays() for name, buffer in buffers.items()}

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy a layer's keys and values; end the pass after the last layer asked for that has
        some.
        """
        if self.takes_keys:
            self.keep("key", layer_idx, key_states)
        self.keep("value", layer_idx, value_states)
        # What comes after the last layer that is kept would be computed for nothing.
        if layer_idx == self.last:
            raise Finished
        return key_states, value_states


class PreRopeCache(CaptureCache):
    """As CaptureCache, but its keys come from `hooked`: the projections' outputs, before the rotary
    embedding.
    """

    takes_keys = False

    @contextmanager
    def hooked(self, layers: nn.ModuleList) -> Iterator[None]:
        """Watch the decoder layers' key projections (their key norm, where a family has one)."""

        attentions: dict[int, Any] = {
            layer: layers[layer].self_attn for name, layer in self.places if name == "key"
        }

        def watch(layer: int) -> Callable[[torch.Tensor], None]:
            head_dim = attentions[layer].head_dim
            kv_heads = attentions[layer].k_proj.out_features // head_dim

            def see(keys: torch.Tensor) -> None:
                image, token = keys.shape[:2]
                # Some families norm heads that stand before the tokens already.
                if keys.dim() == 4 and token == kv_heads != keys.shape[2]:
                    self.keep("key", layer, keys)
                    return
                # (image, token, kv_head * dim), with or without a norm of each head, as (image,
                # kv_head, token, dim).
                self.keep("key", layer, keys.reshape(image, token, -1, head_dim).transpose(1, 2))

            return see

        modules = {
            n: getattr(attention, "k_norm", None) or attention.k_proj
            for n, attention in attentions.items()
        }
        with watched({modules[n]: watch(n) for n in modules}):
            yield


@contextmanager
def watched(watchers: Mapping[nn.Module, Callable[[torch.Tensor], None]]) -> Iterator[None]:
    """Show each module's output, the first where it returns several, to its watcher; of passes of
    this thread alone, for others may run meanwhile (kvtool.engine.by_layer).
    """
    thread = get_ident()

    def hook(watch: Callable[[torch.Tensor], None]) -> Callable[[nn.Module, Any, Any], None]:
        def see(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if get_ident() == thread:
                watch(output[0] if isinstance(output, tuple) else output)

        return see

    # Hooks go, however the pass ends, since the model is used again.
    handles = [module.register_forward_hook(hook(watch)) for module, watch in watchers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def layer_outputs(
    layers: nn.ModuleList, indices: Sequence[int], stop: bool
) -> Iterator[dict[int, torch.Tensor]]:
    """Collect the outputs of chosen layers of a tower; with `stop`, end its pass after the last of
    them.
    """
    outputs: dict[int, torch.Tensor] = {}

    def watch(index: int) -> Callable[[torch.Tensor], None]:
        def see(output: torch.Tensor) -> None:
            outputs[index] = output
            if stop and index == max(indices):
                raise Finished

        return see

    with watched({layers[index]: watch(index) for index in indices}), until_finished():
        yield outputs


@contextmanager
def residual_stream(
    layers: nn.ModuleList, indices: Sequence[int], tokens: slice
) -> Iterator[HostBuffer]:
    """Copy the outputs of chosen decoder layers at some tokens to host memory, as one head; end the
    pass after the last of them.
    """
    buffer = HostBuffer(len(indices))

    def watch(row: int, index: int) -> Callable[[torch.Tensor], None]:
        def see(output: torch.Tensor) -> None:
            buffer.put(row, output[:, None, tokens])
            if index == max(indices):
                raise Finished

        return see

    with watched({layers[index]: watch(row, index) for row, index in enumerate(indices)}):
        yield buffer


def tower_layers(tower: nn.Module, count: int) -> nn.ModuleList:
    """Return the list of a tower's `count` transformer layers, whatever its class calls it."""
    for module in tower.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise AssertionError(f"{type(tower).__name__} has no list of {count} layers")


def new_cache(text: Any = None, recurrent: Sequence[int] = ()) -> DynamicCache:
    """Return an empty cache that will hold every token of every layer, sliding windows or not, and
    the states of linear attention.

    text: transformers' configuration of the decoder, where layers are recurrent.
    """
    cache = DynamicCache()
    if recurrent:
        layers: list[Any] = [
            layer if isinstance(layer, LinearAttention) else WHOLE_LAYER()
            for layer in DynamicCache(config=text).layers
        ]
        cache.layers = layers
    return cache


def full_cache(
    keys: Mapping[int, torch.Tensor], values: Mapping[int, torch.Tensor]
) -> DynamicCache:
    """Return a cache of keys and values by layer, (image, kv_head, token, dim), that holds every
    token, sliding windows or not.
    """
    cache = new_cache()
    for layer, key in keys.items():
        cache.update(key, values[layer], layer)
    return cache


def fork(cache: DynamicCache) -> DynamicCache:
    """Another cache with the same contents: growing it leaves the first as it is.

    Nothing is copied.
    """
    grown = copy(cache)
    # A layer grows by concatenation into new tensors, so that a shallow copy shares them safely.
    grown.layers = [copy(layer) for layer in cache.layers]
    for layer in grown.layers:
        _copy_states(layer, lambda states: states.clone())
    return grown


def _copy_states(layer: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Give a layer of linear attention states of its own, since they are overwritten in place."""
    if not isinstance(layer, LinearAttention):
        return
    for name, values in vars(layer).items():
        if isinstance(values, dict):
            copies = {
                key: change(value) if isinstance(value, torch.Tensor) else value
                for key, value in values.items()
            }
            setattr(layer, name, copies)


def widened(cache: DynamicCache, rows: int) -> DynamicCache:
    """Return a cache of one row as one of several equal rows. Keys and values are not copied before
    it grows.
    """
    copies = fork(cache)
    for layer in copies.layers:
        widen(layer, rows)
    return copies


def widen(layer: Any, rows: int) -> None:
    """Make of a cache's layer, which has one row, one of several equal rows."""
    _copy_states(layer, lambda states: states.repeat(rows, *[1] * (states.dim() - 1)))
    if getattr(layer, "keys", None) is not None:
        layer.keys, layer.values = (
            states.expand(rows, -1, -1, -1) for states in (layer.keys, layer.values)
        )

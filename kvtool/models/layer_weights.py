"""Weights of a decoder's layers that stay on disk: at most two layers' are on the device at a time,
the one that runs and the one that is read meanwhile.

Every pass through the decoder works so, since each layer fetches its weights before it runs. What
makes it fast is that many passes go through a layer together: see kvtool.engine.by_layer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from kvtool.models.placement import COMPUTES_ON

Pause = Callable[[int], None]


class _Source(NamedTuple):
    """Where a weight is read from: a mapping of accelerate's that opens the file, and its key."""

    weights: Any
    key: str


class LayerWeights:
    """Brings the weights of one layer after the other to a device.

    Attributes:
        n_layers: How many layers there are.
        last: The layer after which the first is wanted again, and read ahead.
    """

    def __init__(self, layers: nn.ModuleList, device: torch.device) -> None:
        """Take over layers that accelerate left on disk."""
        self.layers = layers
        self.device = device
        self.n_layers = len(layers)
        self.last = self.n_layers - 1
        self._sources = [_taken_over(layer, device) for layer in layers]
        self._held: int | None = None
        self._ahead: tuple[int, Future[dict[str, torch.Tensor]]] | None = None
        # One thread reads while the caller's computes.
        self._reader = ThreadPoolExecutor(1, "layer-weights")
        self._local = threading.local()
        for number, layer in enumerate(layers):
            layer.register_forward_pre_hook(self._entering(number))

    def pause_by(self, pause: Pause) -> None:
        """Have passes of this thread call `pause` with a layer's number before it runs, in place
        of fetching its weights themselves.
        """
        self._local.pause = pause

    def hold(self, number: int) -> None:
        """Bring a layer's weights to the device, let go of another's, and read the next ahead."""
        if self._held == number:
            return
        # Read before the other layer goes: two layers' weights are there for a moment.
        weights = self._read_ahead(number)
        self.release()
        self.layers[number].load_state_dict(weights, strict=False, assign=True)
        self._held = number
        following = number + 1 if number < self.last else 0
        if following != number:
            self._ahead = following, self._reader.submit(self._read, following)

    def release(self) -> None:
        """Let go of the weights of the layer that is held."""
        if self._held is None:
            return
        if self.device.type == "cuda":
            # The memory must not be written to before all that reads it has run.
            torch.cuda.synchronize(self.device)
        layer = self.layers[self._held]
        empty = {
            name: torch.empty_like(layer.get_parameter(name), device="meta")
            for name in self._sources[self._held]
        }
        layer.load_state_dict(empty, strict=False, assign=True)
        self._held = None

    def _read_ahead(self, number: int) -> dict[str, torch.Tensor]:
        """Return a layer's weights, from the reader where it is at them already."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            # A pass may have begun anew: then what was read ahead is another layer's.
            weights = ahead[1].result()
            if ahead[0] == number:
                return weights
        return self._reader.submit(self._read, number).result()

    def _read(self, number: int) -> dict[str, torch.Tensor]:
        """Read a layer's weights from disk, on the reader's thread."""
        stream: Any = None
        if self.device.type == "cuda":
            # A stream of its own, so that copying goes on beside what is computed.
            stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream) if stream is not None else nullcontext():
            weights = {
                name: self._on_device(source.weights[source.key])
                for name, source in self._sources[number].items()
            }
        if stream is not None:
            stream.synchronize()
        return weights

    def _on_device(self, weight: torch.Tensor) -> torch.Tensor:
        """Return a weight on the device; on the host a copy, for a mapped file is read only when
        it is computed with.
        """
        return weight.clone() if self.device.type == "cpu" else weight.to(self.device)

    def _entering(self, number: int) -> Callable[[nn.Module, Any], None]:
        """Return what a layer calls before it runs."""

        def enter(_module: nn.Module, _inputs: Any) -> None:
            # Passes that go together stop here; any other fetches the weights itself.
            getattr(self._local, "pause", self.hold)(number)

        return enter


def _taken_over(layer: nn.Module, device: torch.device) -> dict[str, _Source]:
    """Return where each parameter of a layer is read from, and leave none of accelerate's hooks,
    which would read it at every call.
    """
    from accelerate.hooks import remove_hook_from_module

    sources: dict[str, _Source] = {}
    for path, module in layer.named_modules():
        weights = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
        if weights is None:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            # Only what accelerate left on disk is read from there.
            if parameter.is_meta:
                full_name = f"{path}.{name}" if path else name
                sources[full_name] = _Source(weights.dataset, f"{weights.prefix}{name}")
    remove_hook_from_module(layer, recurse=True)
    setattr(layer, COMPUTES_ON, device)
    # Buffers are small and stay on the device.
    for module in layer.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return sources

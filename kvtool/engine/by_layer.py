"""Extraction layer by layer: many batches go through a layer together while its weights are on the
device, so that weights too large for it are read once for all of them.

Each batch is captured as ever, by the model's own forward, in a thread of its own that stops
before each decoder layer until its turn comes. One thread runs at a time. What a pass holds
meanwhile are its hidden states, not its weights, and nothing is computed otherwise than in a pass
alone: the bytes are the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kvtool.engine.events import Event, Tell

if TYPE_CHECKING:
    from kvtool.engine.plan import Plan
    from kvtool.models.layer_weights import LayerWeights

T = TypeVar("T")
MOST_IMAGES = 1024
"""Images that go through a layer together: enough to hide what reading its weights takes."""
MEMORY_SHARE = 4
"""Their arrays take no more than the host's free memory divided by this."""


class _Abandoned(BaseException):
    """Raised in a pass that nobody waits for any more."""


class _Pass(Generic[T]):
    """One call that stops before each decoder layer until it is resumed.

    Attributes:
        layer: The layer that it stands before; None once it has ended.
    """

    def __init__(self, call: Callable[[], T], weights: LayerWeights) -> None:
        self.layer: int | None = None
        self._call = call
        self._weights = weights
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._is_abandoned = False
        self._turn = threading.Semaphore(0)
        self._halted = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def resume(self) -> None:
        """Let the call run up to its next layer, or to its end."""
        # The thread starts with its first turn, so that passes begin one at a time, too.
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._turn.release()
        self._halted.acquire()

    def result(self) -> T:
        """Return what the call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]

    def abandon(self) -> None:
        """End the call where it stands."""
        if self.layer is not None:
            self._is_abandoned = True
            self.resume()

    def _run(self) -> None:
        # The hook is set in the pass's own thread, whose forward it is to stop.
        self._weights.pause_by(self._pause)
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001  handed to the caller's thread
            self._error = error
        # Whoever waits in resume must wake here as well, or an error would hang the caller.
        self.layer = None
        self._halted.release()

    def _pause(self, layer: int) -> None:
        """Wait before a layer until its weights are there and it is this call's turn."""
        self.layer = layer
        self._halted.release()
        self._turn.acquire()
        if self._is_abandoned:
            raise _Abandoned


def run_together(
    weights: LayerWeights,
    calls: Sequence[Callable[[], T]],
    tell_layer: Callable[[int], None] = lambda _layer: None,
) -> list[T]:
    """Run calls that pass through a decoder, all of them through one layer before the next.

    Args:
        weights: The decoder's layers.
        calls: What runs; each may pass through the decoder several times, one after the other.
        tell_layer: Called with a layer's number when its weights are there.

    Returns what the calls return, in their order. Raises what the first of them raises, and ends
    the others.
    """
    passes = [_Pass(call, weights) for call in calls]
    try:
        # Each pass runs up to its first decoder layer; one without a decoder ends here.
        for item in passes:
            _advanced(item)
        while waiting := [item for item in passes if item.layer is not None]:
            # The earliest layer first: a pass that begins the decoder again is joined by others.
            layer = min(item.layer for item in waiting if item.layer is not None)
            weights.hold(layer)
            tell_layer(layer)
            for item in waiting:
                if item.layer == layer:
                    _advanced(item)
        return [item.result() for item in passes]
    finally:
        # After an error the other passes still wait before a layer, tensors on the device.
        for item in passes:
            item.abandon()


def _advanced(item: _Pass[Any]) -> None:
    """Resume a pass. Raises what it raises."""
    item.resume()
    if item.layer is None:
        item.result()


class Sweep:
    """Brings the batches of several parts through one layer after the other.

    Attributes:
        n_images: How many images go together.
    """

    def __init__(self, weights: LayerWeights, plan: Plan, tell: Tell) -> None:
        """Reckon how many images the host has room for: their arrays stay until all layers ran."""
        import torch

        from kvtool.models.memory import free_bytes

        self._weights, self._tell = weights, tell
        weights.last = max(plan.request.layers)
        # Host memory sets the number: what is captured stays there until the last layer ran.
        room = free_bytes(torch.device("cpu")) // MEMORY_SHARE
        self.n_images = max(1, min(MOST_IMAGES, room // max(1, plan.image_bytes)))

    @classmethod
    def of(cls, model: Any, plan: Plan, tell: Tell) -> Sweep | None:
        """Return that of a model whose layers stay on disk, None for any other."""
        weights = getattr(getattr(model, "net", None), "layer_weights", None)
        return None if weights is None else cls(weights, plan, tell)

    def run(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Run captures together."""
        return run_together(self._weights, calls, lambda n: self._tell(Event("layer", n)))

"""Batches of pictures through the model: how large they are, and what is done where memory ends.

See docs/decisions/engine-batches.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kvtool.engine.events import Event, Tell
from kvtool.engine.growth import Growth
from kvtool.engine.room import DeviceRoom
from kvtool.errors import KvtoolError

if TYPE_CHECKING:
    from kvtool.engine.batches import Waiting
    from kvtool.engine.by_layer import Sweep
    from kvtool.engine.plan import BatchSize
    from kvtool.models.base import Model, Prepared, Request
    from kvtool.models.captured import Captured


class Capture:
    """Runs batches of a model's images, and puts what is captured where it goes."""

    def __init__(
        self,
        model: Model,
        request: Request,
        batch_size: BatchSize,
        n_images: int,
        tell: Tell,
        sweep: Sweep | None = None,
    ) -> None:
        """n_images: how many are to be done, of which depends what a trial may cost. sweep: of a
        model whose layers run one by one, what brings batches through them together.
        """
        self._model, self._request, self._tell = model, request, tell
        self._size = batch_size if isinstance(batch_size, int) else None
        self._room = DeviceRoom(model, request)
        self._fitting: dict[Hashable, int] = {}
        self._sweep = sweep
        self._waiting: list[Sequence[Waiting]] = []
        self._growth = Growth(self._single, self._joined, self._room.fits, n_images, tell)

    def size_of(self, item: Prepared) -> int:
        """Return how many images of an image's shape form a batch."""
        return self._size or self._room.batch_images(item.sample)

    def wanted(self, item: Prepared) -> int:
        """Return for how many full batches of an image's shape to wait, which then run together."""
        return 1 if self._size or self._sweep else self._growth.wanted(self.size_of(item))

    def run(self, batches: Sequence[Sequence[Waiting]]) -> None:
        """Run batches of equal signatures; where layers run one by one, once there are enough."""
        # Batches gather until one reading of each layer's weights serves many of them.
        if self._sweep is not None:
            self._waiting += batches
            if sum(map(len, self._waiting)) >= self._sweep.n_images:
                self.finish()
            return
        items = [[image.item for image in batch] for batch in batches]
        self._put(batches, map(self._single, items) if self._size else self._growth.run(items))

    def finish(self) -> None:
        """Run the batches that wait for more."""
        batches, self._waiting = self._waiting, []
        if self._sweep is not None and batches:
            items = [[image.item for image in batch] for batch in batches]
            self._put(batches, self._sweep.run([partial(self._single, batch) for batch in items]))

    def _put(self, batches: Sequence[Sequence[Waiting]], captures: Iterable[Captured]) -> None:
        """Give each image of some batches what was captured of it."""
        for batch, captured in zip(batches, captures, strict=True):
            # An image without work only stood in its batch, as it did when the run stored it.
            for row, image in enumerate(batch):
                if image.work is not None:
                    image.work.put(image.position, captured, row)

    def _single(self, batch: Sequence[Prepared]) -> Captured:
        """Capture a batch, in pieces where one of its shape did not fit the device before."""
        from torch import OutOfMemoryError

        # The size to which a shape was halved is remembered, or each batch of it would fail first.
        size = self._fitting.get(batch[0].signature, len(batch))
        if size < len(batch):
            return _appended([self._single(piece) for piece in _pieces(batch, size)])
        try:
            return self._joined(batch)
        except OutOfMemoryError as error:
            if len(batch) == 1:
                raise _no_room(batch[0], error) from None
        # Outside the handler, where the failed pass's tensors are free.
        self._fitting[batch[0].signature] = len(batch) // 2
        return self._single(batch)

    def _joined(self, batch: Sequence[Prepared]) -> Captured:
        """Capture a batch as it is. Raises torch.OutOfMemoryError."""
        # A model of this package goes on with the next batch while this one's copies are under way;
        # who writes a part, or compares, waits for them.
        begin = getattr(self._model, "begin_capture", self._model.capture)
        with self._room.watched(len(batch)):
            captured: Captured = begin(batch, self._request)
        self._tell(Event("batch", len(batch)))
        return captured


def _pieces(batch: Sequence[Prepared], size: int) -> list[Sequence[Prepared]]:
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def _appended(pieces: Sequence[Captured]) -> Captured:
    """Return what is captured of the pieces of a batch as if it had run at once."""
    # Lists of all kinds grow in the same order, so that row n of each is image n of the batch.
    first = pieces[0]
    for piece in pieces[1:]:
        for kind, items in piece.arrays.items():
            first.arrays[kind] += items
        for name, items in piece.text.items():
            first.text[name] += items
        first.copies += piece.copies
    return first


def _no_room(item: Prepared, error: Exception) -> KvtoolError:
    return KvtoolError(
        f"image {item.sample.id}: expected one image of {item.sample.n_tokens} tokens to fit on "
        "the device, found no memory left; free the device, choose fewer --kinds, or --dtype "
        f"bfloat16 ({error})"
    )

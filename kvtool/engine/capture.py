"""What the model gives for a part: captured in batches, joined to the part's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.engine.plan import Plan
from kvtool.errors import KvtoolError

if TYPE_CHECKING:
    from kvtool.models.base import Captured, Model, Prepared

Arrays = dict[str, np.ndarray[Any, Any]]
RunCalls = Callable[[Sequence[Callable[[], "Captured"]]], "list[Captured]"]


def batches(prepared: Sequence[Prepared], batch_size: int) -> Iterator[list[int]]:
    """Yield positions of images of equal signature, at most `batch_size` at a time, in order."""
    # Signatures hold values of several types, which only their texts order.
    order = sorted(range(len(prepared)), key=lambda i: (repr(prepared[i].signature), i))
    for _, group in groupby(order, key=lambda i: prepared[i].signature):
        indices = list(group)
        yield from (
            indices[start : start + batch_size] for start in range(0, len(indices), batch_size)
        )


def one_by_one(calls: Sequence[Callable[[], Captured]]) -> list[Captured]:
    """Run captures one after the other."""
    return [call() for call in calls]


def capture_parts(
    model: Model,
    plan: Plan,
    parts: Sequence[Sequence[Prepared]],
    batch_size: int,
    run_calls: RunCalls,
) -> list[tuple[Arrays, Arrays]]:
    """Return arrays of each part and of its text, (layer, head, tokens of all its images, dim),
    images as in `parts`.

    run_calls: runs the captures of all batches, each within one part.
    """
    cuts = [list(batches(part, batch_size)) for part in parts]
    calls = [
        partial(_capture, model, plan, [part[i] for i in positions])
        for part, cut in zip(parts, cuts, strict=True)
        for positions in cut
    ]
    captures = iter(run_calls(calls))
    return [_collected(len(part), cut, captures) for part, cut in zip(parts, cuts, strict=True)]


def _collected(
    n_images: int, cut: Sequence[Sequence[int]], captures: Iterator[Captured]
) -> tuple[Arrays, Arrays]:
    """Return the arrays of a part and of its text from those of its batches."""
    arrays: dict[str, list[Any]] = {}
    text: dict[str, list[Any]] = {}
    # Batches mix the order of images; each array goes back to its image's slot.
    for positions in cut:
        captured = next(captures)
        for store, kinds in ((arrays, captured.arrays), (text, captured.text)):
            for kind, items in kinds.items():
                slots = store.setdefault(kind, [None] * n_images)
                for position, item in zip(positions, items, strict=True):
                    slots[position] = item
    return {kind: _joined(items) for kind, items in arrays.items()}, {
        k: _joined(items) for k, items in text.items()
    }


def _joined(items: list[Any]) -> np.ndarray[Any, Any]:
    """Concatenate on the token axis, releasing each image's array as it is copied, so that a part
    is held once.
    """
    first = items[0]
    tokens = [item.shape[2] for item in items]
    joined = np.empty((*first.shape[:2], sum(tokens), first.shape[3]), first.dtype)
    end = 0
    for i, n in enumerate(tokens):
        joined[:, :, end : end + n] = items[i]
        items[i] = None
        end += n
    return joined


def _capture(model: Model, plan: Plan, batch: list[Prepared]) -> Captured:
    """Capture a batch; where the device has no room for it, its halves."""
    from torch import OutOfMemoryError

    try:
        return model.capture(batch, plan.request)
    except OutOfMemoryError as error:
        if len(batch) == 1:
            raise KvtoolError(
                f"image {batch[0].sample.id}: expected one image of {batch[0].sample.n_tokens} "
                "tokens to fit on the "
                "device, found no memory left; free the device, choose fewer --kinds, or --dtype "
                f"bfloat16 ({error})"
            ) from None
    # Outside the handler, where the failed pass's tensors are free.
    half = len(batch) // 2
    first, second = _capture(model, plan, batch[:half]), _capture(model, plan, batch[half:])
    for kind, items in second.arrays.items():
        first.arrays[kind] += items
    for name, items in second.text.items():
        first.text[name] += items
    return first

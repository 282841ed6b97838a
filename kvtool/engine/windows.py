"""Windows: parts whose pictures form batches together. See docs/decisions/engine-batches.md."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvtool.engine.plan import Plan

Indices = tuple[int, ...]
WINDOW_PARTS = 8
WINDOW_BYTES = 4_000_000_000
WINDOW_SHARE = 8
"""A window's arrays take no more than the machine's memory divided by this."""


def window_parts(plan: Plan) -> int:
    """Return how many parts a window of a plan has: as many as its arrays leave room for, and so
    few that every worker finds two windows.
    """
    import torch

    from kvtool.models.memory import total_bytes

    part_size = plan.config.part_size
    room = min(WINDOW_BYTES, total_bytes(torch.device("cpu")) // WINDOW_SHARE)
    by_memory = room // max(1, part_size * plan.image_bytes)
    # Parts in all, by twice the workers: with larger windows some of them would stand idle.
    by_workers = -(-len(plan.indices) // part_size) // (2 * plan.n_workers)
    return max(1, min(WINDOW_PARTS, by_memory, by_workers))


def windows(plan: Plan, parts: Sequence[Indices]) -> list[tuple[list[Indices], Indices]]:
    """Return of each window the parts among `parts` that lie in it, and the indices of the plan
    that do, whether in one of these parts or not.

    Windows begin at multiples of their length, so that the workers of a call agree on them, and so
    do later calls over as many pictures with as many workers. Calls of other lengths meet on the
    claims of parts alone: none does a part that another holds or has committed.
    """
    length = window_parts(plan) * plan.config.part_size
    indices: dict[int, list[int]] = {}
    for index in sorted(plan.indices):
        indices.setdefault(index // length, []).append(index)
    # Parts come in order, so that those of a window are neighbors.
    return [
        (list(group), tuple(indices[number]))
        for number, group in groupby(parts, key=lambda part: part[0] // length)
    ]

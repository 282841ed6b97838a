"""The public door to a run's arrays: plain Zarr arrays, for zarr's own interface and what is built
on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kvtool.errors import UsageError
from kvtool.store.manifest import RunConfig
from kvtool.store.mirrors import mirror_of
from kvtool.store.parts import Part

if TYPE_CHECKING:
    import zarr


class ZarrPart(NamedTuple):
    """An array of one part: images i lies in array[:, :, offsets[i]:offsets[i + 1]] and has the id
    ids[i].
    """

    array: zarr.Array[Any]
    ids: tuple[str, ...]
    offsets: tuple[int, ...]


def open_arrays(parts: Sequence[Part], config: RunConfig, name: str) -> list[ZarrPart]:
    """Open an array of each part with zarr, for reading.

    Raises UsageError where the run has no such array.

    A part without a single value of the array, e.g. of no text before its images, is left out.
    """
    if name not in config.array_names():
        stored = ", ".join(config.array_names())
        raise UsageError(f"run {config.name}: {name} is not stored, only {stored}")
    import zarr  # takes a while, and only this needs it

    opened = []
    for part in parts:
        if name in part.arrays:
            folder = part.folder / name
            mirror = mirror_of(folder)
            location = folder if mirror is None else mirror.zarr_store(folder)
            array = zarr.open_array(location, mode="r")
            ids = tuple(sample.id for sample in part.samples)
            opened.append(ZarrPart(array, ids, tuple(part.offsets(name))))
    return opened

"""Search indexes of a run: files that can be computed again, checked piece by piece before use.

RUN/indexes/zarr.json             group
RUN/indexes/<name>/zarr.json      what the index is; size and crc32c of the pieces of its files
RUN/indexes/<name>/<file>         the index itself, in its library's own format

They are committed as parts are: written aside, fsynced, renamed. `store remove` drops them with
the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvtool import schema
from kvtool.errors import CorruptError
from kvtool.store import layout, mirrors
from kvtool.store.files import (
    commit_folder,
    crc32c,
    os_errors,
    remove_committed,
    scratch_folder,
    write_file,
)
from kvtool.store.run import Run
from kvtool.store.sealed import group_json, leaf_json, read_group

Pieces = list[tuple[int, str]]
"""(size in bytes, crc32c as 8 hex digits) of a file's consecutive pieces."""


class DamagedIndexError(CorruptError):
    """An index is not what was written: drop it and build it again."""


@dataclass(frozen=True)
class CheckedFile:
    """A file of an index: each piece is compared with its checksum when it is first asked for."""

    path: Path
    pieces: Sequence[tuple[int, str]]

    def check(self, piece: int) -> None:
        """Raise DamagedIndexError where a piece's bytes are not those written, or the file has
        another size.
        """
        if piece in self._checked:
            return
        # Only the piece is read: an index may be larger than what a search needs of it.
        start, stop = self._bounds[piece : piece + 2]
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(start)
                checksum = f"{crc32c(file.read(stop - start)):08x}"
        except OSError as error:
            raise DamagedIndexError(f"{self.path}: {error.strerror}") from None
        if size != self._bounds[-1]:
            raise DamagedIndexError(f"{self.path}: expected {self._bounds[-1]} bytes, found {size}")
        if checksum != (expected := self.pieces[piece][1]):
            raise DamagedIndexError(
                f"{self.path}: expected crc32c {expected} of bytes {start} to {stop}, found "
                f"{checksum}: damaged"
            )
        self._checked.add(piece)

    @cached_property
    def _checked(self) -> set[int]:
        return set()

    @cached_property
    def _bounds(self) -> list[int]:
        # Where each piece begins, and where the last one ends.
        return [0, *accumulate(size for size, _ in self.pieces)]


def describe(data: NDArray[np.uint8], sizes: Sequence[int]) -> Pieces:
    """Return the checksums of consecutive pieces of these sizes, which make up all of `data`."""
    bounds = [0, *accumulate(sizes)]
    if bounds[-1] != len(data):
        raise ValueError(f"expected pieces of {len(data)} bytes in all, found {bounds[-1]}")
    return [
        (size, f"{crc32c(data[start : start + size]):08x}")
        for size, start in zip(sizes, bounds, strict=False)
    ]


def folder_of(run: Run) -> Path:
    """Return the folder of a run's indexes, which is there once the run was searched."""
    return run.folder / layout.INDEXES


def names(run: Run) -> list[str]:
    """Return the names of a run's indexes, damaged ones included."""
    folder = folder_of(run)
    return [path.name for path in layout.entries(folder) if path.is_dir()]


def load(run: Run, name: str) -> tuple[dict[str, Any], dict[str, CheckedFile]] | None:
    """Return an index's attributes and files; None where there is none of this name.

    Raises DamagedIndexError.
    """
    folder = folder_of(run) / name
    mirrors.complete(folder)
    try:
        if not folder.is_dir():
            return None
        attributes = read_group(folder, str(folder))
        files = schema.read(dict[str, Pieces], attributes.pop("files", None), f"{folder}: files")
        # A folder that was copied or renamed is none of this run's indexes.
        if (stored_as := attributes.pop("committed_as", None)) != name:
            raise DamagedIndexError(f"{folder}: expected the index {name}, found {stored_as}")
    except (CorruptError, OSError) as error:
        raise DamagedIndexError(str(error)) from None
    return attributes, {file: CheckedFile(folder / file, pieces) for file, pieces in files.items()}


def keep(
    run: Run, name: str, write: Callable[[Path], tuple[dict[str, Any], dict[str, Pieces]]]
) -> None:
    """Commit an index; where another process was first, that one stays.

    write: puts fsynced files in a folder and returns the index's attributes and their pieces.
    Raises StoreError where the store cannot be written; nothing is left behind then.
    """
    layout.check_name(name, "index name")
    with (
        os_errors(f"run {run.name}: index {name} cannot be written"),
        scratch_folder(run.store) as scratch,
    ):
        # A run that was never searched has no group of indexes yet.
        if not folder_of(run).exists():
            group = scratch / layout.INDEXES
            group.mkdir()
            write_file(group / layout.ZARR_JSON, group_json({}))
            commit_folder(group, folder_of(run))
        # The index's own files first, the zarr.json that lists their checksums behind them.
        tmp = scratch / name
        tmp.mkdir()
        attributes, files = write(tmp)
        write_file(
            tmp / layout.ZARR_JSON, leaf_json({"committed_as": name, **attributes, "files": files})
        )
        commit_folder(tmp, folder_of(run) / name)


def drop(run: Run, name: str) -> None:
    """Delete an index, at once for those who look for it; none of this name is fine."""
    with os_errors(f"run {run.name}: index {name} cannot be dropped"):
        remove_committed(run.store, folder_of(run) / name)


def problems(run: Run, folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield (what is wrong with an index, whether it is damaged), for `store verify`."""
    if not folder.is_dir():
        yield "not a file of kvtool", False
        return
    try:
        loaded = load(run, folder.name)
        files = {} if loaded is None else loaded[1]
        # Files that nothing lists are told and left alone.
        for path in layout.entries(folder):
            if path.name not in files:
                yield f"{path.name}: not a file of kvtool", False
        for file in files.values():
            for piece in range(len(file.pieces)):
                file.check(piece)
    except DamagedIndexError as error:
        yield f"{error}: `kvtool store repair` drops it, then it is built again", True

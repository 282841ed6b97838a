"""Bytes of a store's files by what they are for; together they are all its files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from kvtool.store import layout
from kvtool.store.mirrors import REMOTE_FOLDERS, mirror_of

_ANSWERS = re.compile(rb'^\{"kvtool_crc32c": "\w{8}", "key": "[^"]*", "kind": "answers"')
_HEAD_BYTES = 400


@dataclass(frozen=True)
class Usage:
    """parts, texts: arrays of images and of texts.

    metadata: zarr.json files, claims and the ledger. n_results, n_answers: files of each. foreign:
    what is not kvtool's.
    """

    bytes: int
    parts: int
    texts: int
    results: int
    answers: int
    pictures: int
    indexes: int
    tmp: int
    metadata: int
    foreign: int
    n_results: int
    n_answers: int

    def row(self) -> dict[str, int]:
        """Return the columns of a table."""
        sizes = {
            f"{'other' if name == 'foreign' else name}_bytes": size
            for name, size in asdict(self).items()
            if not name.startswith(("n_", "bytes"))
        }
        return {"bytes": self.bytes, **sizes, "results": self.n_results, "answers": self.n_answers}


def measure(store: Path) -> Usage:
    """Return the bytes of all files below a store; files that go meanwhile are left out."""
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for path, nbytes in _files(store):
        # Another process may remove the file at this moment.
        with suppress(OSError):
            purpose = _purpose(path.relative_to(store).parts[:-1], path)
            sizes[purpose] += nbytes
            counts[purpose] += 1
    purposes = (
        "parts",
        "texts",
        "results",
        "answers",
        "pictures",
        "indexes",
        "tmp",
        "metadata",
    )
    return Usage(
        bytes=sizes.total(),
        **{purpose: sizes[purpose] for purpose in purposes},
        foreign=sizes["other"],
        n_results=counts["results"],
        n_answers=counts["answers"],
    )


def _files(store: Path) -> Iterator[tuple[Path, int]]:
    """Yield each file and its size; of an object store each object, under the path that it would
    have in a folder.
    """
    if (mirror := mirror_of(store)) is not None:
        yield from ((store / key, nbytes) for key, nbytes in mirror.nbytes().items())
        return
    # Files of other people's tools are counted, too: together these are all bytes.
    for folder, _, names in os.walk(store):
        for name in names:
            with suppress(OSError):
                yield Path(folder, name), Path(folder, name).lstat().st_size


def _purpose(folders: tuple[str, ...], path: Path) -> str:
    """Return what a file is for, by the folders from the store down to it."""
    root = folders[0] if folders else ""
    if layout.is_litter(path.name):
        return "other"
    # The zarr.json of a group at the top belongs to no purpose of its own.
    if path.name == layout.ZARR_JSON and len(folders) == 1:
        return "metadata"
    if root == "results" and len(folders) == 1 and path.suffix == ".json":
        return "answers" if _holds_answers(path) else "results"
    if root in ("tmp", layout.PICTURES):
        return root
    if root in (layout.LEDGER, *REMOTE_FOLDERS) or path.name == layout.ZARR_JSON:
        return "metadata"
    group = folders[2] if root == "runs" and len(folders) > 2 else ""
    return {"parts": "parts", "text": "texts", layout.INDEXES: "indexes", "locks": "metadata"}.get(
        group, "other"
    )


def _holds_answers(path: Path) -> bool:
    with path.open("rb") as file:
        return _ANSWERS.match(file.read(_HEAD_BYTES)) is not None

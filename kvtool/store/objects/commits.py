"""A commit: the one object whose conditional PUT makes a folder part of a store.

It names every object of the folder, with size and crc32c, and holds the small files as texts. The
objects lie under a name of their own, `<folder>-<version>/`, where the version is a digest of the
file that has the checksums of all others; so two writers of one folder never write to one object,
and what is not committed is never looked at.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from kvtool import schema
from kvtool.store.durable import FileRecord, read_file, read_record, sizes
from kvtool.store.layout import ZARR_JSON
from kvtool.store.mirrors import REMOTE_FOLDERS
from kvtool.store.sealed import SEAL, UNSEALED, sealed, unsealed

COMMITS, INDEX, RECENT = REMOTE_FOLDERS
HEADS = (ZARR_JSON, "manifest.json")
"""The file of a folder that has the checksums of all others: a group's, or that of pictures."""


@dataclass(frozen=True)
class Commit:
    """What a folder is made of.

    path: where it lies in the store, e.g. runs/<run>/parts/<part>. token: of the attempt, so that a
    writer knows its own commit again. committed_s: the writer's clock. files: size and crc32c of
    each object by its name in the folder. texts: the files that a mirror has of it.
    """

    path: str
    version: str
    token: str
    committed_s: float
    files: dict[str, tuple[int, int]]
    texts: dict[str, str]

    @classmethod
    def of(cls, folder: Path, path: str, records: Mapping[str, FileRecord]) -> Commit:
        """Return the commit of a written folder; its files are read where no record is known."""
        names = sorted(sizes(folder))
        # Checksums are those of the bytes as they were written, where the writer knows them.
        files = {name: tuple(records.get(name) or read_record(folder / name)) for name in names}
        # A run and a segment of its roster are JSON throughout, and small.
        is_text = all(name.endswith(".json") for name in names)
        texts = names if is_text else [name for name in HEADS if name in names]
        return cls(
            path,
            version_of(folder) or "",
            secrets.token_hex(8),
            time.time(),
            {name: (nbytes, crc) for name, (nbytes, crc) in files.items()},
            {name: read_file(folder / name).decode() for name in texts},
        )

    @property
    def key(self) -> str:
        """The key of the commit's own object."""
        return commit_key(self.path)

    @property
    def folder(self) -> str:
        """The key that its objects lie below."""
        return f"{self.path}-{self.version}"

    @property
    def is_text(self) -> bool:
        """Whether all of its files are texts, so that it has no objects beside it."""
        return len(self.files) == len(self.texts)

    def to_bytes(self) -> bytes:
        """Return the bytes of the commit's object, sealed."""
        return sealed({SEAL: UNSEALED, **asdict(self)})

    @classmethod
    def from_bytes(cls, data: bytes, location: str) -> Commit:
        """Return the inverse of to_bytes. Raises CorruptError."""
        return schema.read(cls, unsealed(data, location), location)


def commit_key(path: str) -> str:
    """Return the key of the commit of a folder."""
    return f"{COMMITS}/{path}.json"


def version_of(folder: Path) -> str | None:
    """Return the version of what a folder holds, 16 hex digits; None where it holds nothing."""
    for name in HEADS:
        head = folder / name
        # A digest of the checksums is one of all files, so that equal folders have equal versions.
        if head.exists():
            return hashlib.sha256(head.read_bytes()).hexdigest()[:16]
    return None

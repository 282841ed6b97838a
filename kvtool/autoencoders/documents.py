"""Texts that SAEs are trained and checked on: lines of files, or the captions of a data set."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.datasets.records import CAPTIONS
from kvtool.digests import digest_files, digest_texts
from kvtool.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from kvtool.models.language import Language

log = logging.getLogger("kvtool")

LONGEST_LINE = 1 << 20
"""Characters of a document; a longer line is several."""
HELD_OUT_SHARE = 10
"""One context of so many is held out."""


@dataclass(frozen=True)
class Documents:
    """Texts in a fixed order, read anew whenever they are iterated over.

    Attributes:
        name: Where they come from, for messages.
        digest: Of all of them.
        n_bytes: No more tokens are in them than this.
    """

    name: str
    digest: str
    n_bytes: int
    read: Callable[[], Iterable[str]]

    def __iter__(self) -> Iterator[str]:
        return (text for line in self.read() if (text := line.strip()))


def open_documents(
    text: Sequence[str | PathLike[str]], dataset: Any = None, *, what: str
) -> Documents:
    """Open texts.

    Args:
        text: Files in UTF-8, one document a line.
        dataset: A data set with captions, or its NAME[:PATH][@SPLIT].
        what: Leads errors: the command.

    Raises UsageError where both or neither are there, and for files that cannot be read;
    DatasetError for a data set without captions.
    """
    if bool(text) == (dataset is not None):
        raise UsageError(
            f"{what}: expected --text FILE... or --dataset SPEC, found "
            f"{'both' if text else 'neither'}; give one of them"
        )
    return captions_of(dataset) if dataset is not None else _files([Path(name) for name in text])


def listed_documents(texts: Sequence[str], name: str) -> Documents:
    """Return texts in memory as documents."""
    n_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
    return Documents(name, digest_texts(texts), n_bytes, lambda: texts)


def captions_of(dataset: Any) -> Documents:
    """Return all captions of a data set, image after image. Raises DatasetError for none."""
    from kvtool.datasets import DATASETS, open_dataset

    opened = open_dataset(dataset) if isinstance(dataset, str) else dataset
    name = getattr(opened, "name", str(dataset))
    # A data set without captions has no such method.
    captions = getattr(opened, CAPTIONS, None)
    sentences = [] if captions is None else [s for group in captions().values() for s in group]
    if not sentences:
        names = [name for name, kind in DATASETS.usable().items() if hasattr(kind, CAPTIONS)]
        raise DatasetError(
            f"dataset {name}: expected captions, found none; data sets that may have some: "
            f"{', '.join(names)}"
        )
    if skipped := list(getattr(opened, "skipped", ())):
        log.warning("dataset %s: %d left out, the first: %s", name, len(skipped), skipped[0])
    return listed_documents(sentences, f"captions of {name}")


def _files(paths: Sequence[Path]) -> Documents:
    digests = digest_files(paths)
    for path in paths:
        if not digests[path]:
            raise UsageError(
                f"--text {path}: expected a file with one document a line, found none that can be "
                "read; check the path"
            )
    name = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    n_bytes = sum(path.stat().st_size for path in paths)
    digest = digest_texts([digests[path] for path in paths])
    return Documents(name, digest, n_bytes, lambda: (line for p in paths for line in _lines(p)))


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file. Raises UsageError for what is no text."""
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            # In pieces: a line without an end must not fill the memory.
            while line := file.readline(LONGEST_LINE):
                number += 1
                yield line
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(
            f"--text {path}: expected text in UTF-8, found after line {number}: {error}; convert "
            "it, or leave it out"
        ) from None


def contexts(language: Language, documents: Iterable[str], length: int) -> Iterator[list[int]]:
    """Yield the token ids of documents, cut into contexts of at most `length` tokens."""
    for text in documents:
        ids = language.token_ids(text)
        for start in range(0, len(ids), length):
            yield ids[start : start + length]


def is_held_out(ids: Sequence[int]) -> bool:
    """Return whether a context is held out: its ids alone tell, so that what repeats is always on
    the same side.
    """
    digest = hashlib.blake2b(array("q", ids).tobytes(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0

"""The names in a folder, read once: which of many listed files are there, without a look at
each.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from kvtool.errors import DatasetError


class Listing:
    """The names in one folder; those of a folder that is missing are none.

    Raises DatasetError where the folder is there but cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.names = frozenset(os.listdir(folder))  # noqa: PTH208  names are wanted, not paths
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
            self.names = frozenset()
        except OSError as error:
            raise DatasetError(
                f"{folder}: expected a folder that can be read, found: {error.strerror}"
            ) from None

    def find(self, name: str) -> Path | None:
        """Return the file of this name; else the only one whose name differs in case or Unicode
        form alone; else None.
        """
        if name in self.names:
            return self.folder / name
        # Unpacked on another system, a name may differ in case or in how its accents are composed.
        similar = self._similar.get(_folded(name), [])
        return self.folder / similar[0] if len(similar) == 1 else None

    def place(self, name: str) -> Path:
        """Return the file of this name where one is found, else where it should be."""
        return self.find(name) or self.folder / name

    @cached_property
    def _similar(self) -> dict[str, list[str]]:
        """Names by what they have in common with others: case and Unicode form set aside."""
        similar: dict[str, list[str]] = {}
        for name in self.names:
            similar.setdefault(_folded(name), []).append(name)
        return similar


def absent_files(paths: Iterable[Path]) -> set[Path]:
    """Return those files that are not there, told by the names in their folders."""
    # A listing for each folder: a look at each of many thousand files takes minutes.
    listings: dict[Path, Listing] = {}
    absent = set()
    for path in paths:
        folder = path.parent
        if folder not in listings:
            listings[folder] = Listing(folder)
        if path.name not in listings[folder].names:
            absent.add(path)
    return absent


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

"""What a store keeps beside its runs: results, answers and pictures, each under a key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kvtool.errors import StoreError
from kvtool.store import keeping, layout, mirrors

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class StoredResults:
    """The results of a store. A key is a hash of all that a result depends on."""

    path: Path

    @property
    def results_dir(self) -> Path:
        """The folder of the results."""
        return layout.results_path(self.path)

    def save_result(self, key: str, result: dict[str, Any]) -> Path:
        """Keep a JSON result under a key, a hash of what it depends on; the last one stays."""
        return keeping.save_result(self.path, key, result)

    def keep(self, key: str, result: dict[str, Any]) -> bool:
        """As save_result, but a store that cannot be written, a colleague's or a full one, costs
        nobody the result: a warning says that it is not kept, and of answers, which are many, one
        for all.
        """
        try:
            self.save_result(key, result)
        except StoreError as error:
            what = (
                f"store {mirrors.address_of(self.path)}: answers cannot be kept"
                if result.get("kind") in keeping.ANSWERS
                else str(error)
            )
            keeping.warn_once(
                f"{what}; the result is given all the same", always=what == str(error)
            )
            return False
        return True

    def drop(self, key: str) -> None:
        """Remove what is kept under a key, as what served only until a result was whole."""
        keeping.drop_result(self.path, key)

    def load_result(self, key: str) -> dict[str, Any] | None:
        """Return the result kept under a key, or None.

        Raises CorruptError where the file is damaged.
        """
        return keeping.load_result(keeping.result_path(self.path, key))

    def kept(self, key: str, parse: Callable[[dict[str, Any]], T]) -> T | None:
        """Return the result kept under a key, parsed; None where there is none.

        A damaged one is said in a warning and taken for none: what is kept next takes its place.
        parse: raises KvtoolError where the record is none of its kind.
        """
        return keeping.find_result(keeping.result_path(self.path, key), parse)

    def results(self, mention: str = "") -> Iterator[dict[str, Any]]:
        """Return all that save_result kept, the last saved first; damaged files are left out, and a
        warning names each.

        Args:
            mention: only those in whose file this text stands, such as the hash of a run's
                settings; the others are not parsed.
        """
        return keeping.results(self.path, mention)

    def pictures_dir(self, key: str) -> Path:
        """Return the folder that keep_pictures makes for a key; whole where it is there."""
        folder = keeping.pictures_path(self.path, key)
        mirrors.complete(folder)
        return folder

    def pictures(self, key: str, draw: Callable[[], Iterable[tuple[str, bytes]]]) -> Path:
        """Return the folder of a key's pictures, drawn where they are not there whole; outside of a
        store that cannot be written.
        """
        return keeping.pictures(self.path, key, draw)

    def keep_pictures(self, key: str, files: Iterable[tuple[str, bytes]]) -> Path:
        """Keep files, (name, bytes), in a folder of their own; where it is there already, that one
        stays.
        """
        return keeping.keep_pictures(self.path, key, files)

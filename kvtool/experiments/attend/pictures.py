"""Pictures shared with other processes: whoever claims one takes its looks, and keeps what was
measured of them until the whole result is kept.

What is kept of a picture are numbers of that picture alone. They are summed up by whoever gives the
result, in the order of the pictures, so that sums do not depend on who measured what.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any
from zipfile import BadZipFile

import numpy as np

from kvtool import schema
from kvtool.asking.attending import Attender, Look
from kvtool.asking.inquiries import Array, Inquiry
from kvtool.errors import CorruptError
from kvtool.progress import Progress
from kvtool.result import Result, result_key
from kvtool.store import Store
from kvtool.store.shares import Share, chunk_name

Numbers = dict[str, Array]
"""Arrays by what they measure."""
Measure = Callable[[str, Iterator[Look]], dict[str, Numbers]]
"""Measures the looks at a picture, by its id: numbers by the id of what they are of, a text or the
picture."""


@dataclass(frozen=True)
class _Record:
    """The record kept of a picture.

    Attributes:
        ids: What the numbers are of.
        arrays: A compressed archive of NumPy's, in base 64, which keeps each number as it is.
        skipped: A line for each text that nothing could be taken of.
    """

    ids: list[str]
    arrays: str
    skipped: list[str]


@dataclass(frozen=True)
class PictureNumbers:
    """What was measured of a picture.

    Attributes:
        entries: Numbers by the id of a text or the picture.
        skipped: A line for each text that nothing could be taken of.
    """

    entries: dict[str, Numbers] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the record to keep."""
        # Members of an archive are files: a position in place of an id, which may have any signs.
        members = {
            f"{position}.{name}": array
            for position, numbers in enumerate(self.entries.values())
            for name, array in numbers.items()
        }
        data = BytesIO()
        np.savez_compressed(data, **members)  # type: ignore[arg-type]
        arrays = b64encode(data.getvalue()).decode()
        return {"ids": list(self.entries), "arrays": arrays, "skipped": self.skipped}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> PictureNumbers:
        """Read a stored record. Raises CorruptError."""
        stored = schema.read(_Record, record, "looks at a picture")
        entries: list[Numbers] = [{} for _ in stored.ids]
        try:
            with np.load(BytesIO(b64decode(stored.arrays))) as archive:
                for member, array in archive.items():
                    position, _, name = member.partition(".")
                    entries[int(position)][name] = array
        except (ValueError, IndexError, BadZipFile, EOFError) as error:
            raise CorruptError(
                f"looks at a picture: expected an archive of arrays: {error}"
            ) from None
        return cls(dict(zip(stored.ids, entries, strict=True)), stored.skipped)


ReadPicture = Callable[[], PictureNumbers]
"""Reads what was measured of a picture; should it be damaged since, it is measured again."""
NO_NUMBERS = PictureNumbers()
"""In place of a picture's numbers where the whole result is kept, so that nobody needs them."""


@dataclass
class PictureShares:
    """The pictures of a result, shared with other processes.

    Attributes:
        attender: What takes the looks.
        store: Where the numbers are kept.
        key: The key of the whole result.
        share: What this process does of them.
        fresh: Whether all is measured again.
        progress: Called with 1 and a note for each picture.
    """

    attender: Attender
    store: Store
    key: str
    share: Share
    fresh: bool
    progress: Progress
    _keys: set[str] = field(default_factory=set)
    _new_keys: set[str] = field(default_factory=set)
    _in_memory: dict[str, PictureNumbers] = field(default_factory=dict)

    def measured(
        self, step: str, inquiries: Sequence[Inquiry], measure: Measure
    ) -> list[ReadPicture]:
        """Measure the pictures of inquiries with the others who do, and return what reads the
        numbers of each, in the order of the pictures. Raises BusyError; see Share.each.

        step: says what is measured, and what that depends on beside the whole result's settings.
        """
        # A picture's cache is read once for all that is asked about it.
        by_image: dict[str, list[Inquiry]] = {}
        for inquiry in inquiries:
            by_image.setdefault(inquiry.image, []).append(inquiry)

        reads = {
            image: partial(self._once, step, image, members, measure)
            for image, members in by_image.items()
        }

        def do(image: str) -> None:
            """Measure a picture, or find it measured."""
            reads[image]()
            self.progress(1, image)

        self.share.each(reads, do, "images")
        return list(reads.values())

    def _once(
        self, step: str, image: str, inquiries: Sequence[Inquiry], measure: Measure
    ) -> PictureNumbers:
        """Return what is kept of a picture, or measure it. Raises BusyError."""
        # A part's key is within that of the whole: parts of other settings are never found.
        key = result_key(["looks", self.key, step, image])
        self._keys.add(key)

        def make() -> PictureNumbers:
            """Measure the picture."""
            # What this picture left out is kept with it, for those who read it later.
            n_skipped = len(self.attender.skipped)
            entries = measure(image, self.attender.looks(inquiries, lambda *_: None))
            numbers = PictureNumbers(entries, self.attender.skipped[n_skipped:])
            self._keep(key, numbers, {"run": self.attender.run.name, "image": image})
            return numbers

        name = chunk_name("looks", image, key)
        return self.share.once(self.attender.run, name, lambda: self._stored(key), make)

    def _stored(self, key: str) -> PictureNumbers | None:
        """Return what is kept of a picture; nothing is to be done where the whole is."""
        if key in self._in_memory:
            return self._in_memory[key]
        if self.fresh and key not in self._new_keys:
            return None
        numbers = self.store.kept(key, PictureNumbers.from_json)
        if numbers is None and not self.fresh and self._is_whole():
            return NO_NUMBERS
        return numbers

    def _is_whole(self) -> bool:
        return self.store.kept(self.key, Result.from_json) is not None

    def _keep(self, key: str, numbers: PictureNumbers, labels: Mapping[str, str]) -> None:
        """Keep numbers; in memory where the store cannot be written, which is said once."""
        self._new_keys.add(key)
        record = {"kind": "looks", **labels, **numbers.to_json()}
        if self._in_memory or not self.store.keep(key, record):
            self._in_memory[key] = numbers

    def drop(self) -> None:
        """Remove what is kept of the pictures, once the whole is kept."""
        for key in self._keys:
            self.store.drop(key)

"""The roster of a run: its images in order, so that an image's index means the same to every worker
and for ever.

A data set may grow, move or lose pictures while a run stays. So a run has an order of its own: the
ids of the data set as first seen, and after them those that came later. It is written as segments,
`roster/<n>/zarr.json`, each committed by a rename that only one writer can win; the roster is what
they say together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool import schema
from kvtool.errors import CorruptError
from kvtool.store import ledger
from kvtool.store.durable import make_folder
from kvtool.store.files import commit_folder, os_errors, scratch_folder, write_file
from kvtool.store.layout import ROSTER, ZARR_JSON
from kvtool.store.sealed import group_json, read_group


@dataclass(frozen=True)
class _Segment:
    """The attributes of a segment: its first index, the ids from there on, indices gone since, the
    data set's place.
    """

    start: int
    ids: list[str]
    absent: list[int] = field(metadata=schema.member("gone"))
    dataset_path: str | None = field(metadata=schema.member("place"))


@dataclass(frozen=True)
class Roster:
    """The images of a run, by index.

    Args:
        ids: id of each index, images that are gone included.
        absent: indices whose pictures left the data set, so that the run does not hold them.
        dataset_path: where the data set lay when the last segment was written; None where it has no
            path, as a list of pictures.
        n_segments: segments read.
    """

    ids: tuple[str, ...] = ()
    absent: frozenset[int] = frozenset()
    dataset_path: str | None = None
    n_segments: int = 0

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Index of each image that is not gone."""
        return {name: index for index, name in enumerate(self.ids) if index not in self.absent}

    def extended(
        self, ids: Sequence[str], dataset_path: str | None, absent: Collection[int] = ()
    ) -> Roster:
        """This roster with further images at its end, images gone, and the data set's place as of
        now.
        """
        # An id that left and came back gets a new index: the old one stays that of the old picture.
        all_absent = self.absent | frozenset(absent)
        listed = {name for index, name in enumerate(self.ids) if index not in all_absent}
        new = tuple(name for name in dict.fromkeys(ids) if name not in listed)
        return Roster((*self.ids, *new), all_absent, dataset_path, self.n_segments)


def read_roster(folder: Path, location: str) -> Roster:
    """Return the roster in a run's folder; empty where it has no segment yet.

    Raises CorruptError that begins with `location`.
    """
    ids: list[str] = []
    absent: set[int] = set()
    dataset_path: str | None = None
    number = 0
    # Segments are numbered without gaps: the first number that lacks ends the roster.
    while (folder / ROSTER / segment_name(number)).is_dir():
        segment = _read_segment(folder, number, location)
        # An index means an image by its place alone, so that no segment may be skipped.
        if segment.start != len(ids):
            raise CorruptError(
                f"{location}: roster {segment_name(number)}: expected it to begin at image "
                f"{len(ids)}, found "
                f"{segment.start}: remove the run, then extract again"
            )
        ids += segment.ids
        absent |= set(segment.absent)
        dataset_path = segment.dataset_path
        number += 1
    # The ledger remembers a segment that was committed and is no longer there.
    if ledger.entry_of(folder.parent.parent, folder / ROSTER / segment_name(number)).exists():
        raise CorruptError(
            f"{location}: roster {segment_name(number)} is gone: `kvtool store repair` restores it"
        )
    return Roster(tuple(ids), frozenset(absent), dataset_path, number)


def extend_roster(
    store: Path,
    folder: Path,
    location: str,
    ids: Sequence[str],
    dataset_path: str | None,
    absent: Collection[int] = (),
) -> Roster:
    """Put what is new at the roster's end and return it.

    Of several writers at once, one after the other does.
    """
    while True:
        roster = read_roster(folder, location)
        extended = roster.extended(ids, dataset_path, absent)
        # With nothing new, too, a run's first segment is written: it says where its data set lies.
        if roster.n_segments and extended == roster:
            return roster
        # Only what is new is written: ids at the end, and those that are gone since.
        segment = segment_attributes(
            extended.ids[len(roster.ids) :],
            dataset_path,
            len(roster.ids),
            extended.absent - roster.absent,
        )
        with (
            os_errors(f"{location}: its roster cannot be written"),
            scratch_folder(store) as scratch,
        ):
            # Only one writer wins this number; whoever loses reads again and appends what is still
            # new.
            name = segment_name(roster.n_segments)
            write_segment(scratch / name, segment)
            make_folder(folder / ROSTER)
            commit_folder(scratch / name, folder / ROSTER / name)


def segment_attributes(
    ids: Sequence[str], dataset_path: str | None, start: int = 0, absent: Collection[int] = ()
) -> dict[str, Any]:
    """Return what a segment records: ids of the indices from `start` on, indices gone since, the
    data set's place.
    """
    return {"start": start, "ids": list(ids), "gone": sorted(absent), "place": dataset_path}


def write_segment(folder: Path, attributes: dict[str, Any]) -> None:
    """A segment's folder, not yet committed."""
    folder.mkdir()
    write_file(folder / ZARR_JSON, group_json(attributes))


def segment_name(number: int) -> str:
    """Return the name of the n-th segment of a roster."""
    return f"{number:07d}"


def _read_segment(folder: Path, number: int, location: str) -> _Segment:
    """Return the attributes of a segment, checked. Raises CorruptError."""
    name = f"{location}: roster {segment_name(number)}"
    with os_errors(f"{name}: cannot be read"):
        try:
            segment = read_group(folder / ROSTER / segment_name(number), name)
        except FileNotFoundError:
            raise CorruptError(
                f"{name}: its {ZARR_JSON} is missing: `kvtool store repair` restores it"
            ) from None
        except CorruptError as error:
            raise CorruptError(f"{error}: `kvtool store repair` restores it") from None
    return schema.read(_Segment, segment, name)

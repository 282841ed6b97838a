"""The roster of a run: its images in order, so that an image's index means the same to every worker
and for ever.

A data set may grow, move or lose pictures while a run stays. So a run has an order of its own: the
ids of the data set as first seen, and after them those that came later. It is written as segments,
`roster/<n>/zarr.json`, each committed by a rename that only one writer can win; the roster is what
they say together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool import schema
from kvtool.errors import CorruptError
from kvtool.store import ledger
from kvtool.store.durable import make_folder
from kvtool.store.files import (
    commit_folder,
    group_json,
    os_errors,
    read_group,
    scratch_folder,
    write_file,
)
from kvtool.store.layout import ROSTER, ZARR_JSON


@dataclass(frozen=True)
class _Segment:
    """The attributes of a segment: its first index, the ids from there on, indices gone since, the
    data set's place.
    """

    start: int
    ids: list[str]
    gone: list[int]
    place: str | None


@dataclass(frozen=True)
class Roster:
    """The images of a run, by index.

    ids: id of each index, images that are gone included. gone: indices whose pictures left the data
    set, so that the run does not hold them. place: where the data set lay when the last segment was
    written; None where it has no place, as a list of paths. n_segments: segments read.
    """

    ids: tuple[str, ...] = ()
    gone: frozenset[int] = frozenset()
    place: str | None = None
    n_segments: int = 0

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Index of each image that is not gone."""
        return {name: index for index, name in enumerate(self.ids) if index not in self.gone}

    def extended(self, ids: Sequence[str], place: str | None, gone: Collection[int] = ()) -> Roster:
        """This roster with further images at its end, images gone, and the data set's place as of
        now.
        """
        left = self.gone | frozenset(gone)
        listed = {name for index, name in enumerate(self.ids) if index not in left}
        new = tuple(name for name in dict.fromkeys(ids) if name not in listed)
        return Roster((*self.ids, *new), left, place, self.n_segments)


def read_roster(folder: Path, where: str) -> Roster:
    """Return the roster in a run's folder; empty where it has no segment yet.

    Raises CorruptError that begins with `where`.
    """
    ids: list[str] = []
    gone: set[int] = set()
    place: str | None = None
    number = 0
    while (folder / ROSTER / segment_name(number)).is_dir():
        segment = _read_segment(folder, number, where)
        if segment.start != len(ids):
            raise CorruptError(
                f"{where}: roster {segment_name(number)}: expected it to begin at image "
                f"{len(ids)}, found "
                f"{segment.start}: remove the run, then extract again"
            )
        ids += segment.ids
        gone |= set(segment.gone)
        place = segment.place
        number += 1
    if ledger.entry_of(folder.parent.parent, folder / ROSTER / segment_name(number)).exists():
        raise CorruptError(
            f"{where}: roster {segment_name(number)} is gone: `kvtool store repair` restores it"
        )
    return Roster(tuple(ids), frozenset(gone), place, number)


def extend_roster(
    store: Path,
    folder: Path,
    where: str,
    ids: Sequence[str],
    place: str | None,
    gone: Collection[int] = (),
) -> Roster:
    """Put what is new at the roster's end and return it.

    Of several writers at once, one after the other does.
    """
    while True:
        roster = read_roster(folder, where)
        wanted = roster.extended(ids, place, gone)
        if (wanted.ids, wanted.gone, wanted.place) == (
            roster.ids,
            roster.gone,
            roster.place,
        ) and roster.n_segments:
            return roster
        segment = segment_attributes(
            wanted.ids[len(roster.ids) :], place, len(roster.ids), wanted.gone - roster.gone
        )
        with os_errors(f"{where}: its roster cannot be written"), scratch_folder(store) as scratch:
            name = segment_name(roster.n_segments)
            write_segment(scratch / name, segment)
            make_folder(folder / ROSTER)
            commit_folder(scratch / name, folder / ROSTER / name)


def segment_attributes(
    ids: Sequence[str], place: str | None, start: int = 0, gone: Collection[int] = ()
) -> dict[str, Any]:
    """Return what a segment records: ids of the indices from `start` on, indices gone since, the
    data set's place.
    """
    return {"start": start, "ids": list(ids), "gone": sorted(gone), "place": place}


def write_segment(folder: Path, attributes: dict[str, Any]) -> None:
    """A segment's folder, not yet committed."""
    folder.mkdir()
    write_file(folder / ZARR_JSON, group_json(attributes))


def segment_name(number: int) -> str:
    """Return the name of the n-th segment of a roster."""
    return f"{number:07d}"


def _read_segment(folder: Path, number: int, where: str) -> _Segment:
    """Return the attributes of a segment, checked. Raises CorruptError."""
    name = f"{where}: roster {segment_name(number)}"
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

"""Read every byte of a store against its checksums and list all that is wrong or gone.

A store is checked unit by unit: a part, a text, a result, a folder of pictures, an index, and so
on. A unit is what `store repair` drops as a whole, and what `store verify --part i/n` deals out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kvtool.errors import CorruptError, StoreError
from kvtool.store import keeping, layout, ledger
from kvtool.store.catalog import Store
from kvtool.store.durable import read_file
from kvtool.store.files import crc32c, scratch_owner
from kvtool.store.members import check_group, check_member, check_segment, is_in_place
from kvtool.store.parts import Part
from kvtool.store.problems import Mend, Problem, drop_if_corrupt, foreign_files, unreadable
from kvtool.store.roster import segment_name
from kvtool.store.run import Run
from kvtool.store.run_folder import read_config
from kvtool.store.sealed import unsealed

__all__ = ["Problem", "Unit", "in_share", "units", "verify"]
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Unit:
    """Something that is checked as a whole. counts: whether progress counts it."""

    label: str
    check: Callable[[], Iterable[Problem]]
    counts: bool = False

    def problems(self) -> Iterator[Problem]:
        """Yield what its check finds.

        A disk that cannot be read is one more problem, and no end of the others.
        """
        try:
            yield from self.check()
        except (StoreError, OSError) as error:
            yield unreadable(self.label, error)


def verify(
    store: Store, progress: Progress | None = None, share: tuple[int, int] = (1, 1)
) -> list[Problem]:
    """Return all problems of a store, none raised. progress(1) is called after each part.

    share: the i-th of n shares, from 1 on. They do not overlap, together they are everything, and
    what is in a share stays in it, whatever else comes or goes.
    """
    problems: list[Problem] = []
    for unit in units(store):
        if in_share(unit.label, share):
            problems += unit.problems()
            if progress and unit.counts:
                progress(1)
    return problems


def in_share(label: str, share: tuple[int, int]) -> bool:
    """Return whether a unit is in the i-th of n shares, by a hash of its label."""
    number, count = share
    # By its label alone: a unit stays in its share, whatever the listing holds.
    return crc32c(label.encode("utf-8", "surrogateescape")) % count == number - 1


def units(store: Store) -> Iterator[Unit]:
    """Yield all there is to check in a store; a folder that cannot be listed is a unit that says
    so.
    """
    yield Unit("store", partial(_check_root, store))
    yield Unit("tmp", partial(_check_tmp, store))
    yield Unit(layout.LEDGER, partial(_check_ledger, store))
    for check, folder in (
        (_check_result, store.results_dir),
        (_check_pictures, layout.pictures_path(store.path)),
    ):
        yield from _units_in(folder, folder.name, partial(_unit_of_kept, check))
    yield from _units_in(layout.runs_path(store.path), "runs", partial(_units_of_run, store))


def _units_in(
    folder: Path, label: str, units_of: Callable[[Path], Iterable[Unit]]
) -> Iterator[Unit]:
    """Yield the units of each entry of a folder."""
    try:
        paths = layout.entries(folder)
    except OSError as error:
        # Bound now, since the error is gone when the unit is checked.
        problem = unreadable(label, error)
        yield Unit(label, lambda: [problem])
        return
    for path in paths:
        yield from units_of(path)


def _unit_of_kept(check: Callable[[Path], Iterable[Problem]], path: Path) -> Iterator[Unit]:
    yield Unit(f"{path.parent.name}/{path.name}", partial(check, path))


def _units_of_run(store: Store, folder: Path) -> Iterator[Unit]:
    label = f"runs/{folder.name}"
    try:
        # By its whole name: a beginning, which would do for a user, may be that of another run.
        run = Run(store.path, read_config(store.path, folder.name))
    except StoreError as error:
        # Without its settings nothing in a run can be checked: it is one problem as a whole.
        what = f"cannot be opened: {error}"
        mend: Mend = "restore" if isinstance(error, CorruptError) else ""
        problem = Problem(folder.name, "", "", what, mend, folder)
        if isinstance(error.__cause__, NotADirectoryError):  # a file is no run
            problem = Problem("", "", "", f"{label}: not a file of kvtool")
        yield Unit(label, lambda: [problem])
        return
    yield Unit(label, partial(_check_run, run))
    for group in layout.RUN_GROUPS:
        yield from _units_in(
            run.folder / group, f"{label}/{group}", partial(_unit_of_member, run, group)
        )


def _unit_of_member(run: Run, group: str, path: Path) -> Iterator[Unit]:
    # Only parts count for progress, and what is no part is not counted.
    counts = group == "parts" and layout.part_range(path.name) is not None
    yield Unit(
        f"runs/{run.name}/{group}/{path.name}", partial(check_member, run, group, path), counts
    )


def _check_root(store: Store) -> Iterator[Problem]:
    ours = {layout.ZARR_JSON, *layout.ROOT_FOLDERS, layout.PICTURES, layout.LEDGER}
    yield from foreign_files(store.path, ours, "", "", "")
    yield from check_group(layout.runs_path(store.path), "", "runs")
    # Stores of an older kvtool have no zarr.json there, and a crash may leave a folder without one.
    for name in layout.PLAIN_FOLDERS:
        if os.path.lexists(store.path / name / layout.ZARR_JSON):
            yield from check_group(store.path / name, "", name)


def _check_tmp(store: Store) -> Iterator[Problem]:
    """Yield what is not kvtool's; what dead processes left is no problem: it is swept in time."""
    for path in layout.entries(layout.tmp_path(store.path)):
        if scratch_owner(path) is None:
            yield Problem("", "", "", f"tmp/{path.name}: not a file of kvtool")


def _check_ledger(store: Store) -> Iterator[Problem]:
    for target in ledger.gone(store.path):
        relative = target.relative_to(store.path)
        in_run = relative.parts[0] == "runs"
        run = relative.parts[1] if in_run else ""
        part = "/".join(relative.parts[2:]).removeprefix("parts/") if in_run else ""
        what = f"{'' if part else f'{relative}: '}it was committed and is gone"
        yield Problem(
            run,
            part,
            "",
            what,
            "restore" if target.parent.name == layout.ROSTER else "forget",
            target,
        )
    for path in ledger.spoiled(store.path):
        yield Problem(
            "", "", "", f"{path.relative_to(store.path)}: expected an empty file", "copy", path
        )
    # Copies must be whole as well, or they would fail when they are needed.
    copies = [layout.ledger_path(store.path) / layout.ROOT_COPY]
    for name in store.runs():
        copies += [ledger.run_copy(store.path, name), *ledger.segment_copies(store.path, name)]
    for path in copies:
        try:
            unsealed(read_file(path), f"file {path.relative_to(store.path)}")
        except FileNotFoundError:
            if path == copies[0] and path.parent.exists():  # every store is made with one
                what = f"{path.relative_to(store.path)}: it was written and is gone"
                yield Problem("", "", "", what, "copy", path)
        except (CorruptError, OSError) as error:
            yield Problem(
                "", "", "", str(error), "copy" if isinstance(error, CorruptError) else "", path
            )


def _check_result(path: Path) -> Iterator[Problem]:
    if path.suffix != ".json":
        yield Problem("", "", "", f"results/{path.name}: not a file of kvtool")
        return
    try:
        keeping.load_result(path)
    except StoreError as error:
        yield Problem("", "", "", f"results/{path.name}: {error}", drop_if_corrupt(error), path)


def _check_pictures(path: Path) -> Iterator[Problem]:
    label = f"{layout.PICTURES}/{path.name}"
    if not path.is_dir():
        yield Problem("", "", "", f"{label}: not a file of kvtool")
        return
    try:
        for what in keeping.picture_problems(path):
            yield Problem("", "", "", f"{label}: {what}", "drop", path)
    except OSError as error:
        yield Problem("", "", "", f"{label}: cannot be read: {error.strerror}")
    # Files that the manifest does not list are told and stay.
    for foreign in foreign_files(path, keeping.picture_files(path), "", "", ""):
        yield Problem("", "", "", f"{label}/{foreign.what}")


def _check_run(run: Run) -> Iterator[Problem]:
    ours = {layout.ZARR_JSON, *layout.RUN_FOLDERS, layout.INDEXES}
    yield from foreign_files(run.folder, ours, run.name, "", "")
    for group in (*layout.RUN_FOLDERS, layout.INDEXES):
        if group in layout.RUN_FOLDERS or (run.folder / group).is_dir():
            yield from check_group(run.folder / group, run.name, f"run {run.name}, group {group}")
    yield from _check_roster(run)
    yield from _check_twice(run)


def _check_roster(run: Run) -> Iterator[Problem]:
    """Segments that follow each other and can be read, and parts whose images are those that the
    roster lists.
    """
    try:
        roster = run.roster
    except StoreError as error:
        # A damaged segment is told where it is checked itself: here what is wrong between them.
        segments = layout.entries(run.folder / layout.ROSTER)
        if not any(
            any(check_segment(run, layout.ROSTER, segment)) for segment in segments
        ):  # else told there
            yield Problem(run.name, layout.ROSTER, "", str(error))
        return
    # Segments behind a gap are out of reach of the roster, which ends before it.
    names = {path.name for path in layout.entries(run.folder / layout.ROSTER)}
    for name in sorted(names - {segment_name(number) for number in range(roster.n_segments)}):
        what = (
            f"not among the {roster.n_segments} segments that follow each other: "
            "one before it is gone"
        )
        yield Problem(run.name, f"{layout.ROSTER}/{name}", "", what)
    if not roster.n_segments:
        return
    for part in _parts_with_samples(run):
        for index, name in zip(
            part.indices, (picture.id for picture in part.pictures), strict=True
        ):
            # An index must mean the same image to the part and to the roster.
            listed = roster.ids[index] if index < len(roster.ids) else None
            if name != listed:
                what = f"image {index} is {name!r}, and in the run's roster {listed!r}"
                # An index that no segment lists may be of a segment that is lost: then the part
                # is all that remains of it.
                yield Problem(
                    run.name, part.name, "", what, "" if listed is None else "drop", part.folder
                )


def _parts_with_samples(run: Run) -> list[Part]:
    """Return parts whose images can be read; what is wrong with others is told where they are
    checked themselves.
    """
    parts = []
    for part in run.readable("parts"):
        with suppress(StoreError):
            if part.samples and part.pictures:
                parts.append(part)
    return parts


def _check_twice(run: Run) -> Iterator[Problem]:
    """Yield the images that are in two parts: the one that was committed under its name stays."""
    owners: dict[int | str, Part] = {}
    # Parts that lie where they were committed come first, and so own their images.
    for part in sorted(_parts_with_samples(run), key=lambda part: not is_in_place(run, part)):
        for sample in part.samples:
            for key, what in ((sample.index, "image with index"), (sample.id, "image with id")):
                owner = owners.setdefault(key, part)
                if owner is not part:
                    first, second = sorted((owner.name, part.name))
                    what = f"{what} {key!r} is in part {first} too: remove one part"
                    yield Problem(
                        run.name,
                        second,
                        "",
                        what,
                        "" if is_in_place(run, part) else "drop",
                        part.folder,
                    )

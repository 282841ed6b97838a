"""The ledger: what was committed, so that what is gone as a whole is missed.

STORE/ledger/ has an empty file for each committed part, text, segment, index, result and folder of
pictures, under the path it has in the store, and copies of the zarr.json of each run and of each
segment of its roster, with which damaged ones are mended. An entry is made after the commit and
taken away before a removal; what a crash leaves without an entry is only not missed.
"""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kvtool.store import layout
from kvtool.store.durable import fsync_folder, read_file, walk, write_file
from kvtool.store.mirrors import mirror_of

RUN_COPY = "run.json"
"""The copy of a run's zarr.json, in the run's folder of the ledger."""


def entry_of(store: Path, target: Path) -> Path:
    """Return the entry of a committed file or folder."""
    return layout.ledger_path(store) / target.relative_to(store)


def mark(store: Path, target: Path) -> None:
    """Enter what was just committed. A ledger that cannot be written costs nobody the commit."""
    if mirror_of(store) is not None:  # an object store has commits in place of a ledger
        return
    depth = len(target.relative_to(store).parts)
    if depth not in (
        2,
        4,
    ):  # of a run, or of anything but runs, the group as such is made again at any time
        return
    with suppress(OSError):
        entry = entry_of(store, target)
        entry.parent.mkdir(parents=True, exist_ok=True)
        if target.parent == layout.runs_path(store):
            _mark_run(store, target, entry)
        elif target.parent.name == layout.ROSTER:
            _copy(target, entry)
        else:
            entry.touch()
        if not target.exists():  # removed in this moment: its entry was to go first
            unmark(store, target)


def unmark(store: Path, target: Path) -> None:
    """Take the entry of what is about to be removed away, for good, before it is."""
    entry = entry_of(store, target)
    if not entry.exists():
        return
    if entry.is_dir():
        with suppress(FileNotFoundError):  # someone else takes it away, too
            for folder, files in walk(entry, topdown=False):
                for name in files:
                    (folder / name).unlink(missing_ok=True)
                with suppress(OSError):  # someone entered something meanwhile
                    folder.rmdir()
    else:
        entry.unlink(missing_ok=True)
    fsync_folder(entry.parent)


def gone(store: Path) -> Iterator[Path]:
    """Yield what was committed and is not there; of a run that is gone, the run alone."""
    ledger = layout.ledger_path(store)
    # Results and pictures lie by themselves, everything else under its run.
    for group in (layout.results_path(store), layout.pictures_path(store)):
        for entry in layout.entries(entry_of(store, group)):
            if not (group / entry.name).exists():
                yield group / entry.name
    for run in layout.entries(ledger / layout.runs_path(store).name):
        folder = layout.run_path(store, run.name)
        # A run that is gone as a whole is one loss, not one for each of its parts.
        if folder.is_dir():
            yield from gone_of_run(store, folder)
        elif (run / RUN_COPY).exists():
            yield folder


def gone_of_run(store: Path, run: Path) -> Iterator[Path]:
    """Yield what was committed to a run (its folder) and is not there."""
    for group in layout.entries(entry_of(store, run)):
        if group.is_dir():
            for entry in layout.entries(group):
                if not entry.name.startswith(".") and not (run / group.name / entry.name).exists():
                    yield run / group.name / entry.name


def spoiled(store: Path) -> Iterator[Path]:
    """Entries that are not what an entry is: an empty regular file."""
    if not layout.ledger_path(store).exists():  # whoever removed it lost no image
        return
    for folder, files in walk(layout.ledger_path(store)):
        for name in files if folder.name != layout.ROSTER else ():
            if (
                name in (RUN_COPY, layout.ROOT_COPY)
                or name.startswith(f".{RUN_COPY}.")
                or layout.is_litter(name)
                or folder / name == layout.ledger_path(store) / layout.ZARR_JSON
            ):
                continue  # copies, those that a crash left half written, and litter
            status = (folder / name).lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size:
                yield folder / name


def run_copy(store: Path, run: str) -> Path:
    """Return where the copy of a run's zarr.json is."""
    return entry_of(store, layout.run_path(store, run)) / RUN_COPY


def segment_copies(store: Path, run: str) -> list[Path]:
    """Return the copies of the segments of a run's roster; each has its segment's name."""
    entries = layout.entries(entry_of(store, layout.run_path(store, run) / layout.ROSTER))
    return [entry for entry in entries if not entry.name.startswith(".")]


def mark_all(store: Path) -> None:
    """Enter everything that is there, e.g. after a crash between a commit and its entry."""
    groups = [layout.results_path(store), layout.pictures_path(store)]
    for run in layout.entries(layout.runs_path(store)):
        # A run without its copy is entered with all that it holds; else what lacks an entry.
        if not run_copy(store, run.name).exists():
            mark(store, run)
        groups += [run / group for group in layout.RUN_GROUPS]
    for group in groups:
        for target in layout.entries(group):
            if not entry_of(store, target).exists():
                mark(store, target)


def _mark_run(store: Path, run: Path, entry: Path) -> None:
    """Copy a run's zarr.json, and enter what was committed together with the run."""
    entry.mkdir(exist_ok=True)
    _copy(run, entry / RUN_COPY)
    for group in layout.RUN_GROUPS:
        for target in layout.entries(run / group):
            mark(store, target)


def _copy(folder: Path, entry: Path) -> None:
    """Make a copy of a folder's zarr.json an entry, whole or not at all."""
    # Written aside under a name of its own, since several processes may enter one run.
    aside = entry.with_name(f".{RUN_COPY}.{secrets.token_hex(4)}")
    write_file(aside, read_file(folder / layout.ZARR_JSON))
    aside.replace(entry)
    fsync_folder(entry.parent)

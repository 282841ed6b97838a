"""Mend a store: drop what is damaged, so that the same extraction fills it; restore what has a
copy; prune what belongs to nothing any more. What verifies is never touched.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from kvtool.errors import CorruptError, StoreError
from kvtool.store import keeping, layout, ledger, mirrors, owners
from kvtool.store.catalog import Store
from kvtool.store.durable import read_file, write_file
from kvtool.store.files import (
    close_plain_folders,
    commit_folder,
    is_stale_scratch,
    is_watched_scratch,
    os_errors,
    remove_committed,
    replace_file,
    scratch_folder,
)
from kvtool.store.problems import Mend, Problem
from kvtool.store.run_folder import read_config
from kvtool.store.sealed import group_json, leaf_json, unsealed
from kvtool.store.verify import units

_DID: dict[Mend, str] = {
    "drop": "dropped",
    "group": "written anew",
    "restore": "restored from its copy in the ledger",
    "copy": "copied anew",
    "forget": "forgotten",
    "": "left as it is",
}


@dataclass(frozen=True)
class Mended:
    """What was done (or would be) about one thing, and why.

    run and part are empty where it lies above them.
    """

    run: str
    part: str
    did: str
    reason: str

    def row(self) -> dict[str, str]:
        """Return the columns of a table."""
        return {"run": self.run, "part": self.part, "did": self.did, "why": self.reason}


def repair(store: Store, dry_run: bool = False) -> list[Mended]:
    """Mend all that `store verify` finds, as far as it can be mended; with `dry_run`, say what
    would be done.

    What could not be read, which is another thing than damage, and what is not kvtool's is left as
    it is. Raises StoreError where the store cannot be written.
    """
    rows: list[Mended] = []
    if not dry_run:
        # Runs and their rosters first: without them no part could be checked.
        _restore_runs(store, rows)
    done: set[tuple[Mend, Path | None]] = set()
    for unit in units(store):
        # Problem by problem, so that nothing is dropped that came while the rest was read.
        for problem in unit.problems():
            if (problem.mend, problem.target) in done:
                continue
            rows.append(_mend(store, problem, dry_run))
            if problem.mend:
                done.add((problem.mend, problem.target))
    if not dry_run:
        # Entries and plain folders that a crash left out are made at the end.
        ledger.mark_all(store.path)
        with (
            os_errors(f"store {store.path}: cannot be repaired"),
            scratch_folder(store.path) as tmp,
        ):
            close_plain_folders(store.path, tmp)
    return rows


def restore_root(path: Path) -> bool:
    """Restore the zarr.json of a store from its copy, where it is missing or damaged and the copy
    is whole.
    """
    root = path / layout.ZARR_JSON
    copy = layout.ledger_path(path) / layout.ROOT_COPY
    # Read as a whole: a copy is used only where the store's own file does not hold.
    try:
        unsealed(read_file(root), str(root))
    except (CorruptError, OSError):
        return _restore(path, root, copy)
    return False


def prune(store: Store, dry_run: bool = False) -> list[Mended]:
    """Remove results, answers and pictures of runs that are gone, and what dead processes left in
    tmp/.

    A result of a run that is not there, or has other settings now, belongs to none; one that names
    no run stays. Where old folders in tmp/ are those of other machines, it watches for WATCH_S
    whether their owners still touch them.
    """
    rows = []
    # Listed before anything is removed, so that a dry run tells the same.
    orphans, pictures = _orphans(store)
    for path, run in orphans:
        rows.append(
            Mended(
                run, "", "removed", f"results/{path.name}: its run is gone, or has other settings"
            )
        )
    for path, run in pictures:
        rows.append(Mended(run, "", "removed", f"pictures/{path.name}: no result shows them"))
    scratch = layout.entries(layout.tmp_path(store.path))
    # Only time can tell whether folders of other machines are still touched.
    watched = [path for path in scratch if is_watched_scratch(path)]
    if watched and not dry_run:
        time.sleep(owners.WATCH_S)
    stale = [path for path in scratch if is_stale_scratch(path) or (dry_run and path in watched)]
    rows += [
        Mended("", "", "removed", f"tmp/{path.name}: left by a process that is gone")
        for path in stale
    ]
    if (mirror := mirrors.mirror_of(store.path)) is not None:
        rows += [
            Mended("", "", "removed", f"{folder}: objects that were never committed")
            for folder in mirror.prune(dry_run)
        ]
    if not dry_run:
        with os_errors(f"store {store.path}: cannot be pruned"):
            for path, _ in [*orphans, *pictures]:
                remove_committed(store.path, path)
        store.sweep_tmp()
    return rows


def _orphans(store: Store) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Return the results of runs that are gone, and pictures that only they show, each with the
    run's name.
    """
    runs = {run.name: run.config.hash for run in store.readable_runs()}
    damaged = set(store.runs()) - runs.keys()
    # Pictures go with the last result that shows them.
    orphans, shown_keys, shown_by_orphans = [], set(), {}
    for path in layout.entries(store.results_dir):
        try:
            result = keeping.load_result(path)
        except StoreError:
            continue
        name, settings, pictures = keeping.about(result or {})
        is_orphan = name not in runs or (settings and settings != runs[name])
        if name and name not in damaged and is_orphan:
            orphans.append((path, name))
            shown_by_orphans[pictures] = name
        else:
            shown_keys.add(pictures)
    folders = (
        (key, keeping.pictures_path(store.path, key), run)
        for key, run in shown_by_orphans.items()
        if key
    )
    # Pictures that another result shows stay with it.
    return orphans, [
        (folder, run) for key, folder, run in folders if key not in shown_keys and folder.is_dir()
    ]


def _mend(store: Store, problem: Problem, dry_run: bool) -> Mended:
    mend = problem.mend
    target = problem.target
    did = _DID[mend]
    # Without a whole copy there is nothing to restore a run or segment from.
    if mend == "restore" and target is not None and not _is_whole(_copy_of(store.path, target)):
        did = "left as it is, since it has no copy: `kvtool store remove` drops it"
    elif mend == "restore" and target is not None and _is_blocked(target):
        did = "left as it is, since something else lies in its place: remove that, then run again"
    if target is not None and mend and not dry_run:
        with os_errors(f"store {store.path}: cannot be repaired"):
            if mend == "drop":
                remove_committed(store.path, target)
            elif mend == "forget":
                ledger.unmark(store.path, target)
            elif mend == "copy":
                # A damaged copy goes first, or it would count as an entry that is there.
                target.unlink(missing_ok=True)
                _copy_anew(store.path, target)
            elif mend == "group":
                target.mkdir(exist_ok=True)
                is_plain = target.name in (layout.LOCKS, *layout.PLAIN_FOLDERS)
                document = leaf_json({}) if is_plain else group_json({})
                with scratch_folder(store.path) as tmp:
                    replace_file(target / layout.ZARR_JSON, document, tmp)
    return Mended(problem.run, problem.part, did, problem.what)


def _restore_runs(store: Store, rows: list[Mended]) -> None:
    """First of all, so that the parts of such a run can be checked."""
    for name in store.runs():
        try:
            read_config(store.path, name)
        except CorruptError as error:
            root = layout.run_path(store.path, name) / layout.ZARR_JSON
            if _restore(store.path, root, ledger.run_copy(store.path, name)):
                rows.append(Mended(name, "", _DID["restore"], str(error)))
        except StoreError:
            continue
        _restore_roster(store.path, name, rows)


def _restore_roster(store: Path, run: str, rows: list[Mended]) -> None:
    """Segments of a run's roster, without which no index says which image it means."""
    for copy in ledger.segment_copies(store, run):
        segment = layout.run_path(store, run) / layout.ROSTER / copy.name
        if _is_whole(segment / layout.ZARR_JSON) or not _is_whole(copy) or _is_blocked(segment):
            continue
        if segment.is_dir():
            _restore(store, segment / layout.ZARR_JSON, copy)
        else:
            with os_errors(f"{segment}: cannot be restored"), scratch_folder(store) as scratch:
                (scratch / segment.name).mkdir()
                write_file(scratch / segment.name / layout.ZARR_JSON, read_file(copy))
                commit_folder(scratch / segment.name, segment)
        label = f"{layout.ROSTER}/{segment.name}"
        rows.append(
            Mended(run, label, _DID["restore"], f"{label}: {layout.ZARR_JSON} is damaged or gone")
        )


def _copy_of(store: Path, target: Path) -> Path:
    """Return the copy of the zarr.json of a run, or of a segment of its roster."""
    entry = ledger.entry_of(store, target)
    return entry if target.parent.name == layout.ROSTER else entry / ledger.RUN_COPY


def _is_blocked(group: Path) -> bool:
    """Return whether a group's zarr.json cannot be restored, since a file lies in the place of a
    folder or a folder in the place of the file.
    """
    folders = (group.parent, group)
    is_file = any(folder.exists() and not folder.is_dir() for folder in folders)
    return is_file or (group / layout.ZARR_JSON).is_dir() or not group.parent.is_dir()


def _restore(store: Path, path: Path, copy: Path) -> bool:
    """Replace a group's zarr.json by its copy. False: there is none that is whole."""
    if not _is_whole(copy):
        return False
    with os_errors(f"{path}: cannot be restored"), scratch_folder(store) as tmp:
        replace_file(path, read_file(copy), tmp)
    return True


def _is_whole(copy: Path) -> bool:
    try:
        unsealed(read_file(copy), str(copy))
    except (CorruptError, OSError):
        return False
    return True


def _copy_anew(store: Path, copy: Path) -> None:
    """A damaged copy of zarr.json in the ledger is made again; that of a run by ledger.mark_all."""
    if copy.name == layout.ROOT_COPY:
        with scratch_folder(store) as tmp:
            replace_file(copy, read_file(store / layout.ZARR_JSON), tmp)

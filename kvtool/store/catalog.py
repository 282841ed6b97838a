"""A store: a folder of runs and results."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtool.errors import BusyError, CorruptError, RunConflictError, StoreError, UsageError
from kvtool.store import layout
from kvtool.store.estimate import free_bytes
from kvtool.store.files import (
    SEAL,
    UNSEALED,
    commit_folder,
    fsync_folder,
    group_json,
    is_stale_scratch,
    os_errors,
    read_group,
    replace_file,
    scratch_folder,
    sealed,
    unsealed,
    write_file,
)
from kvtool.store.locks import live_claims, sweep
from kvtool.store.manifest import RunConfig
from kvtool.store.roster import segment_attributes, segment_name, write_segment
from kvtool.store.run import Run

VERSION_FIELD = "kvtool_store_version"


def open_store(path: str | os.PathLike[str], create: bool = False) -> Store:
    """Open the store at `path`; with `create`, make one where nothing or an empty folder is.

    Raises StoreError where the path is a file, no store, or a store of another version.
    """
    folder = Path(path)
    with os_errors(f"store {folder}: cannot be opened"):
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"store {folder}: expected a folder, found a file: name another path")
        if create and not (folder / layout.ZARR_JSON).exists():
            _create(folder)
        _check_version(folder)
    return Store(folder)


def existing_store(path: str | os.PathLike[str]) -> Store | None:
    """The store at `path` if there is one already; writes nothing. Raises as open_store."""
    folder = Path(path)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    return open_store(folder)


def _create(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ours = (layout.ZARR_JSON, *layout.ROOT_FOLDERS)
    foreign = [entry.name for entry in folder.iterdir() if entry.name not in ours and not entry.name.startswith(".")]
    if foreign:
        raise StoreError(
            f"store {folder}: expected an empty folder for a new store, found {foreign[0]!r}: name another path"
        )
    for name in layout.ROOT_FOLDERS:
        (folder / name).mkdir(exist_ok=True)
    with scratch_folder(folder) as tmp:
        replace_file(folder / layout.ZARR_JSON, group_json({VERSION_FIELD: layout.FORMAT_VERSION}), tmp)


def _check_version(folder: Path) -> None:
    try:
        version = read_group(folder, f"store {folder}").get(VERSION_FIELD)
    except FileNotFoundError:
        what = "a folder without zarr.json" if folder.exists() else "nothing"
        raise StoreError(f"store {folder}: expected a kvtool store, found {what}: `kvtool extract` makes one") from None
    if version != layout.FORMAT_VERSION:
        raise StoreError(
            f"store {folder}: expected format version {layout.FORMAT_VERSION}, found {version}: "
            "use the kvtool that wrote it"
        )


@dataclass(frozen=True)
class Store:
    """An open store. Its runs are opened on each call; nothing is held between calls."""

    path: Path

    @property
    def results_dir(self) -> Path:
        return layout.results_path(self.path)

    def runs(self) -> list[str]:
        """Names of the runs, sorted."""
        return sorted(path.parent.name for path in layout.runs_path(self.path).glob(f"*/{layout.ZARR_JSON}"))

    def run(self, name: str | None = None) -> Run:
        """The named run, or the only one made for its own sake. Raises UsageError that lists the runs."""
        names = self.runs()
        listed = ", ".join(names) or "none"
        if name is None:
            first = self.first_runs()
            if not first and names:  # all are damaged: say how
                return self.run(names[0])
            if len(first) != 1:
                raise UsageError(f"store {self.path}: expected one run or a name (--run), found runs: {listed}")
            return first[0]
        if name not in names:
            raise UsageError(f"store {self.path}: no run {name!r}; it has: {listed}")
        return Run(self.path, self._config(name))

    def readable_runs(self) -> list[Run]:
        """The runs that can be opened, by name. What is wrong with others is for `store verify` to say."""
        runs = []
        for name in self.runs():
            with suppress(CorruptError):
                runs.append(self.run(name))
        return runs

    def first_runs(self) -> list[Run]:
        """The readable runs, those left out that an analysis of another one added, "<run>+pope" or "<run>+correct"."""
        names = set(self.runs())
        return [run for run in self.readable_runs() if run.name.rpartition("+")[0] not in names]

    def find_run(self, config: RunConfig) -> Run | None:
        """The run called config.name, or where that is empty, the first one of this configuration; else None.

        Raises RunConflictError, naming the fields that differ, where the name is taken by another configuration.
        """
        for name in self.runs() if not config.name else {config.name} & set(self.runs()):
            stored = self._config(name)
            if stored.hash == config.hash:
                return Run(self.path, stored)
            if config.name:
                raise RunConflictError(
                    f"run {name} of {self.path} has another configuration: {'; '.join(stored.differences(config))}: "
                    "use another --run name"
                )
        return None

    def create_run(self, config: RunConfig) -> Run:
        """The run of this configuration (see find_run), made where there is none.

        Of several processes that make it at once, one does; leftovers of dead local processes are swept on the way.
        """
        self.sweep_tmp()
        if (run := self.find_run(config)) is not None:
            return run
        named = replace(config, name=layout.check_name(config.run_name, "run name"))
        with os_errors(f"run {named.name}: cannot be made in {self.path}"):
            self._write_run(named)
        made = self.find_run(named)
        if made is None:
            raise StoreError(f"run {named.name}: it was removed while it was made: run again")
        return made

    def new_run(self, config: RunConfig, ids: Sequence[str], place: str | None) -> Run | None:
        """A new run of these settings, named config.run_name, whose roster begins with these images.

        None where another process has just made one of that name.
        """
        named = replace(config, name=layout.check_name(config.run_name, "run name"))
        with os_errors(f"run {named.name}: cannot be made in {self.path}"):
            new = self._write_run(named, segment_attributes(ids, place))
        return Run(self.path, named) if new else None

    def free_name(self, stem: str) -> str:
        """`stem`, or where a run has that name, the first of stem-2, stem-3, ... that none has."""
        taken = set(self.runs())
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        return next(name for name in names if name not in taken)

    def remove_run(self, name: str) -> None:
        """Delete a run. Raises UsageError where there is none, BusyError where someone works on it."""
        run = self.run(name)
        owners = live_claims(run.folder / "locks")
        if owners:
            raise BusyError(
                f"run {name} is being written by {owners[0] or 'an unknown process'}: wait for it, then remove"
            )
        with os_errors(f"run {name}: cannot be removed"), scratch_folder(self.path) as tmp:
            run.folder.rename(tmp / name)  # at once for readers; the deletion may take long
            fsync_folder(layout.runs_path(self.path))

    def sweep_tmp(self) -> list[str]:
        """Delete what dead processes of this host left unfinished, and return the names; stale claims too."""
        for run in self.runs():
            sweep(layout.run_path(self.path, run) / "locks")
        stale = [path for path in self._tmp() if is_stale_scratch(path)]
        for path in stale:
            shutil.rmtree(path, ignore_errors=True)
        return [path.name for path in stale]

    def count_parts(self) -> int:
        """Folders of parts in all runs, damaged ones included."""
        return sum(path.is_dir() for path in layout.runs_path(self.path).glob("*/parts/*"))

    def info(self) -> dict[str, Any]:
        """One row for `kvtool store info`; bytes are those of the stored arrays."""
        rows = [self.run(name).info() for name in self.runs()]
        return {
            "store": str(self.path),
            "version": layout.FORMAT_VERSION,
            "runs": len(rows),
            **{key: sum(row[key] for row in rows) for key in ("images", "parts", "bytes")},
            "results": len(list(self.results_dir.glob("*.json"))),
            "free_bytes": free_bytes(self.path),
        }

    def save_result(self, key: str, result: dict[str, Any]) -> Path:
        """Keep a JSON result under a key (a hash of what it depends on); the last one saved stays."""
        path = self.results_dir / f"{layout.check_name(key, 'result key')}.json"
        with os_errors(f"result {key}: cannot be written"), scratch_folder(self.path) as tmp:
            replace_file(path, sealed({SEAL: UNSEALED, "result": result}), tmp)
        return path

    def load_result(self, key: str) -> dict[str, Any] | None:
        """The result kept under a key, or None. Raises CorruptError where the file is damaged."""
        path = self.results_dir / f"{layout.check_name(key, 'result key')}.json"
        try:
            result: dict[str, Any] = unsealed(path.read_bytes(), f"result {path}")["result"]
        except FileNotFoundError:
            return None
        except CorruptError as error:
            raise CorruptError(f"{error}: delete it, it is computed again") from None
        return result

    def results(self) -> Iterator[dict[str, Any]]:
        """All that save_result kept, the last saved first; damaged files, which `store verify` lists, are left out."""
        found = []
        for path in self.results_dir.glob("*.json"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime_ns, path.stem))
        for _, key in sorted(found, reverse=True):
            with suppress(CorruptError, OSError):
                if (result := self.load_result(key)) is not None:
                    yield result

    def pictures_dir(self, key: str) -> Path:
        """The folder that keep_pictures makes for a key; whole where it is there."""
        return layout.pictures_path(self.path) / layout.check_name(key, "key of pictures")

    def keep_pictures(self, key: str, files: Iterable[tuple[str, bytes]]) -> Path:
        """Keep files, (name, bytes), in a folder of their own; where it is there already, that one stays."""
        folder = self.pictures_dir(key)
        with os_errors(f"pictures {key}: cannot be written"), scratch_folder(self.path) as scratch:
            folder.parent.mkdir(exist_ok=True)
            tmp = scratch / key
            tmp.mkdir()
            for name, data in files:
                write_file(tmp / name, data)
            commit_folder(tmp, folder)
        return folder

    def _tmp(self) -> Iterator[Path]:
        folder = layout.tmp_path(self.path)
        return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())

    def _config(self, name: str) -> RunConfig:
        try:
            record = read_group(layout.run_path(self.path, name), f"run {name}")
        except FileNotFoundError:
            raise CorruptError(
                f"run {name}: its {layout.ZARR_JSON} is missing: remove the folder, then extract again"
            ) from None
        config = RunConfig.from_json(record["config"])
        if config.hash != record["hash"] or config.name != name:
            raise CorruptError(
                f"run {name}: expected configuration {record['hash']}, found {config.hash} of {config.name}: "
                "give a renamed folder its name back, or remove it and extract again"
            )
        return config

    def _write_run(self, config: RunConfig, segment: dict[str, Any] | None = None) -> bool:
        """Commit a run's folder, with the first segment of its roster. False: another writer was first."""
        with scratch_folder(self.path) as scratch:
            tmp = scratch / config.name
            tmp.mkdir()
            write_file(tmp / layout.ZARR_JSON, group_json({"config": config.to_json(), "hash": config.hash}))
            for name in layout.RUN_FOLDERS:
                (tmp / name).mkdir()
                write_file(tmp / name / layout.ZARR_JSON, group_json({}))
            if segment is not None:
                write_segment(tmp / layout.ROSTER / segment_name(0), segment)
            return commit_folder(tmp, layout.run_path(self.path, config.name))

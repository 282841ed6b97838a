"""A store: a folder of runs and results."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtool.display import ELLIPSIS, Displayed, Facts, listing
from kvtool.errors import BusyError, StoreError, UsageError
from kvtool.store import keeping, layout, mirrors, usage
from kvtool.store.descriptions import matching, ways_to_choose
from kvtool.store.estimate import free_bytes_of_store
from kvtool.store.files import (
    os_errors,
    remove_committed,
    sweep_scratch,
)
from kvtool.store.locks import live_claims, sweep
from kvtool.store.manifest import RunConfig
from kvtool.store.objects.addresses import remote_address
from kvtool.store.objects.connect import connect
from kvtool.store.roster import segment_attributes
from kvtool.store.run import Run
from kvtool.store.run_folder import read_config, write_run
from kvtool.store.store_folder import check_place, check_version, create_store
from kvtool.store.stored_results import StoredResults


def open_store(path: str | os.PathLike[str], create: bool = False) -> Store:
    """Open the store at `path`; with `create`, make one where nothing or an empty folder is.

    Raises StoreError where the path is a file, no store, or a store of another version.
    """
    if (address := remote_address(path)) is not None:
        return Store(_connected(path, address, create))
    folder = Path(path)
    with os_errors(f"store {folder}: cannot be opened"):
        check_place(path, create)
        if create and not (folder / layout.ZARR_JSON).exists():
            create_store(folder)
        check_version(folder)
    return Store(folder)


def existing_store(path: str | os.PathLike[str]) -> Store | None:
    """Return the store at `path` if there is one already; writes nothing. Raises as open_store."""
    if (address := remote_address(path)) is not None:
        root = connect(address)
        return None if root is None else Store(root)
    folder = Path(path)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    return open_store(folder)


def _connected(path: str | os.PathLike[str], address: str, create: bool) -> Path:
    """Return the mirror's folder of a store on an object store. Raises StoreError."""
    if mirrors.mirror_of(Path(path)) is not None:  # its folder, as an open store or run names it
        return Path(path)
    root = connect(address, create)
    if root is None:
        raise StoreError(
            f"store {address}: expected a kvtool store, found nothing: `kvtool extract` makes one"
        )
    return root


@dataclass(frozen=True, repr=False)
class Store(Displayed, StoredResults):
    """An open store. Its runs are opened on each call; nothing is held between calls.

    As a collection it is one of runs by name: `len(store)`, `for name in store`, `store["name"]`.
    """

    def __len__(self) -> int:
        """Return how many runs there are, damaged ones included."""
        return len(self.runs())

    def __bool__(self) -> bool:
        """Return True: a store without a run is a store."""
        return True

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the runs, sorted."""
        return iter(self.runs())

    def __contains__(self, name: object) -> bool:
        """Return whether there is a run of this name."""
        return name in self.runs()

    def __getitem__(self, name: str) -> Run:
        """Return the run of this name.

        Raises UsageError that lists the runs where there is none.
        """
        return self.run(name)

    @property
    def address(self) -> str:
        """What a user calls the store: its address on an object store, else its path."""
        return mirrors.address_of(self.path)

    def _title(self) -> str:
        return f"Store {self.address}"

    def _facts(self) -> Facts:
        """Return the names of the runs; what cannot be listed is said, since `repr` must never
        fail.
        """
        try:
            names = self.runs()
            return {"runs": f"{len(names)}: {listing(names)}" if names else "none"}
        except (StoreError, OSError) as error:
            return {"damaged": error}

    def runs(self) -> list[str]:
        """Return the names of the runs, sorted; of damaged ones too."""
        mirrors.refresh(self.path)
        with os_errors(f"store {self.address}: its runs cannot be listed"):
            return [
                path.name for path in layout.entries(layout.runs_path(self.path)) if path.is_dir()
            ]

    def readable_runs(self, condition: Callable[[Run], bool] | None = None) -> list[Run]:
        """Return all runs that open, by name; a warning tells of the others, once.

        condition: only runs that meet it, and their images must open, too.
        """
        runs = []
        for name in self.runs():
            try:
                run = Run(self.path, read_config(self.path, name))
                if condition is not None:
                    if not condition(run):
                        continue
                    run.parts()
                runs.append(run)
            except StoreError as error:
                keeping.warn_once(f"{error}; it is left out")
        return runs

    def run(self, name: str | None = None, serves: Callable[[Run], bool] | None = None) -> Run:
        """Return the named run, or the only one made for its own sake that opens.

        Args:
            name: its name, or as much of the beginning as no other run shares. A name as tables
                show it, without its middle, will do as well; so does what only one run is of,
                as "dataset=spair71k,model=demo", see kvtool.store.descriptions.
            serves: without a name, only runs that meet it are looked at, where there are some.

        Raises UsageError that lists the runs.
        """
        names = self.runs()
        if name is None:
            first = self.first_runs()
            if not first and names:  # all are damaged: say how
                return self.run(names[0])
            serving = [run for run in first if serves(run)] if serves and len(first) > 1 else []
            first = serving or first
            if len(first) != 1:
                kind = "runs that serve it" if serving else "runs"
                listed = listing([run.name for run in first] or names)
                raise UsageError(
                    f"store {self.address}: expected one run or a name "
                    f"({ways_to_choose(self.address)}), found {kind}: {listed}"
                )
            return first[0]
        return Run(self.path, read_config(self.path, self._full_name(name, names)))

    def _full_name(self, name: str, names: Sequence[str]) -> str:
        """Return the one name that is meant. Raises UsageError for none and for several."""
        if name in names:
            return name
        head, _, tail = name.partition(ELLIPSIS)
        candidates = [
            full for full in names if name and full.startswith(head) and full.endswith(tail)
        ]
        # Of a run and those that analyses of it added, "<run>+correct", the run is meant.
        first = [full for full in candidates if full.rpartition("+")[0] not in candidates]
        if len(first) == 1:
            return first[0]
        if not first and "=" in name:
            return self._described_name(name, names)
        several = f"{len(first)} runs begin so: {listing(first)}" if first else ""
        raise UsageError(
            f"store {self.address}: no run {name!r}; {several or f'it has: {listing(names)}'}"
        )

    def _described_name(self, description: str, names: Sequence[str]) -> str:
        """Return the name of the one run that is as described. Raises UsageError."""
        described = [run.name for run in matching(description, self.readable_runs())]
        first = [full for full in described if full.rpartition("+")[0] not in described]
        if len(first) != 1:
            raise UsageError(
                f"store {self.address}: expected one run with {description}, found "
                f"{len(first)}: {listing(first or names)}"
                if first
                else f"store {self.address}: no run with {description}; it has: {listing(names)}"
            )
        return first[0]

    def first_runs(self) -> list[Run]:
        """Return the readable runs, those left out that an analysis of another one added,
        "<run>+pope" or "<run>+correct".
        """
        names = set(self.runs())
        return [run for run in self.readable_runs() if run.name.rpartition("+")[0] not in names]

    def new_run(
        self, config: RunConfig, ids: Sequence[str], dataset_path: str | None
    ) -> Run | None:
        """Return a new run of these settings, named config.run_name, whose roster begins with these
        images.

        None where another process has just made one of that name.
        """
        full_config = replace(config, name=layout.check_name(config.run_name, "run name"))
        with os_errors(f"run {full_config.name}: cannot be made in {self.address}"):
            new = write_run(self.path, full_config, segment_attributes(ids, dataset_path))
        return Run(self.path, full_config) if new else None

    def free_name(self, stem: str) -> str:
        """`stem`, or where a run has that name, the first of stem-2, stem-3, ... that none has.

        Raises CorruptError where the run of that name is damaged: it may be the one that is wanted.
        """
        existing_names = set(self.runs())
        if stem in existing_names:
            self.run(stem)
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        return next(name for name in names if name not in existing_names)

    def remove_run(self, name: str, force: bool = False) -> None:
        """Delete a run, damaged or not.

        Raises UsageError where there is none; BusyError where someone works on it, or may do so,
        unless `force`.
        """
        if name not in self.runs():
            raise UsageError(
                f"store {self.address}: no run {name!r}; it has: {listing(self.runs())}"
            )
        folder = layout.run_path(self.path, name)
        with os_errors(f"run {name}: cannot be removed"):
            for owner in () if force else live_claims(folder / "locks").values():
                raise BusyError(
                    f"run {name} is being written by {owner or 'an unknown process'}: wait for "
                    "it, then remove; or "
                    "use --force if nobody works on it"
                )
            remove_committed(self.path, folder)

    def sweep_tmp(self) -> list[str]:
        """Delete what dead processes left unfinished, and return the names; stale claims too."""
        for run in self.runs():
            sweep(layout.run_path(self.path, run) / "locks")
        return sweep_scratch(self.path)

    def count_parts(self, run: str | None = None) -> int:
        """Return how many folders of parts there are in all runs or in one, damaged ones included.

        Raises UsageError for a run it has not.
        """
        names = self.runs()
        if run is not None and run not in names:
            raise UsageError(
                f"store {self.address}: no run {run!r}; it has: {', '.join(names) or 'none'}"
            )
        folders = [layout.run_path(self.path, name) / "parts" for name in ([run] if run else names)]
        return sum(len(layout.entries(folder)) for folder in folders)

    def info(self) -> dict[str, Any]:
        """Return one row for `kvtool store info`: what is there, and the bytes of all its files by
        what they are for.
        """
        rows = [run.info() for run in self.readable_runs()]
        return {
            "store": self.address,
            "version": layout.FORMAT_VERSION,
            "runs": len(self.runs()),
            "images": sum(row["images"] for row in rows),
            "parts": self.count_parts(),
            **usage.measure(self.path).row(),
            "free_bytes": free_bytes_of_store(self.path),
        }

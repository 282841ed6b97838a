"""Stores on the Hugging Face hub: pushed as they lie in a folder, pulled and checked as a copy is.

The hub has the files of a store in a folder, but for what is of this machine alone: claims, what is
being written, and search indexes, which are built again when they are needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kvtool.digests import cache_folder
from kvtool.errors import KvtoolError
from kvtool.layers import LayerChoice
from kvtool.store import copying, layout
from kvtool.store.catalog import Store, open_store
from kvtool.store.copied_parts import source_files
from kvtool.store.copying import (
    Copied,
    check_conflict,
    chosen_runs,
    open_parts,
    other_images,
)
from kvtool.store.durable import read_file
from kvtool.store.files import os_errors
from kvtool.store.hub_folder import HubFolder
from kvtool.store.manifest import RunConfig
from kvtool.store.mirrors import mirror_of
from kvtool.store.objects.addresses import remote_address
from kvtool.store.run import Run
from kvtool.store.store_folder import check_version
from kvtool.store.targets import Target, opened_target
from kvtool.store.verify import verify
from kvtool.types import Kind

_LOCAL_FILES = (
    "tmp/*",
    f"runs/*/{layout.LOCKS}/[!z]*",  # all but zarr.json, which makes it a group
    f"runs/*/{layout.INDEXES}/*",
    f"{layout.LEDGER}/runs/*/{layout.INDEXES}/*",
    "*.DS_Store",
)
_SMALL_FILES = (layout.ZARR_JSON, "runs/*/zarr.json", f"{layout.LEDGER}/*")
"""What says which runs, parts and arrays there are."""
_COMMIT_DIGITS = 12


@dataclass
class Pushed:
    """What a push did.

    store: the address; commit, private: of its data set. runs, parts: there by now that were
    pushed. failed: a line for each part, result and folder of pictures that is damaged or gone,
    which is left out.
    """

    store: str
    runs: int
    parts: int
    private: bool
    commit: str
    failed: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return the columns of a table."""
        return asdict(self) | {"failed": len(self.failed)}


def push(
    source: Store,
    address: str,
    *,
    runs: Sequence[str] | None = None,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    public: bool = False,
) -> Pushed:
    """Push runs to a data set of the Hugging Face hub, which is made where there is none.

    What the hub has already is not sent again, so the same push, ended at any moment, goes on.
    Every byte is compared with its checksum before; parts and results that are damaged or gone are
    left out and named.

    Args:
        source: the open store. Where runs, kinds or layers are chosen, where a part is damaged or
            gone, and of a store on an object store, a copy in a temporary folder is pushed.
        address: hf://datasets/OWNER/NAME[/path].
        runs, kinds, layers: what to push, as in kvtool.store.copying.copy; all by default.
        public: whether all may read a data set that is made by this.

    Raises UsageError for an address, run, kind or layer that is none; RunConflictError where the
    hub has another run of the name; StoreError where the hub cannot be reached or written.
    """
    folder = HubFolder.parse(address)
    folder.check_no_revision()
    # All that can be refused is refused before a data set is made.
    chosen_runs(source, runs, kinds, layers)
    is_private = folder.create(public)
    with _sound_store(source, runs, kinds, layers) as (store, failed):
        names = store.runs()
        # Runs of the hub are compared first: an upload would mix parts of two in one folder.
        _check_hub_runs(folder, [store.run(name) for name in names])
        with os_errors(f"store {source.address}: cannot be read"):
            commit = folder.upload(store.path, _LOCAL_FILES)
        return Pushed(folder.address, len(names), store.count_parts(), is_private, commit, failed)


def pull(
    address: str,
    target: Target,
    *,
    runs: Sequence[str] | None = None,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
) -> Copied:
    """Pull runs from a data set of the Hugging Face hub into a store, as copy does from another.

    Files are downloaded into a folder beside the target, NAME.pull-COMMIT, of parts that the target
    lacks and of the kinds and layers chosen; then they are copied, each compared with its checksum,
    and the folder is deleted. A pull that is ended in between goes on with what is there.

    Args:
        address: hf://datasets/OWNER/NAME[/path][@revision].
        target: an open store, or the path or address of one, which is made where it is not there
            once nothing can be refused and all is downloaded. The folder of one on an object store
            lies in the user's cache.
        runs, kinds, layers: what to pull, as in kvtool.store.copying.copy; all by default.

    Raises UsageError for an address, run, kind or layer that is none; RunConflictError where the
    target has another run of the name; StoreError where the hub cannot be reached, there is no such
    data set, or it has no store.
    """
    folder = HubFolder.parse(address)
    existing = opened_target(target)
    commit = folder.commit()
    download = _download_folder(target, commit)
    is_new = not download.exists()
    try:
        # First what says which parts there are: a mistake is told before large files are fetched.
        source = Store(folder.download(download, commit, _SMALL_FILES))
        if not (source.path / layout.ZARR_JSON).is_file():
            raise folder.no_store()
        check_version(source.path)
        choice = chosen_runs(source, runs, kinds, layers)
        if existing is not None:
            for _, config in choice:
                check_conflict(existing, config, existing.address)
    except KvtoolError:
        # A refusal leaves no folder behind, unless an earlier pull had begun it.
        if is_new:
            shutil.rmtree(download, ignore_errors=True)
        raise
    names, ignored = _needed(choice, existing)
    folder.download(download, commit, names, ignored)
    # What was committed and has no zarr.json was lost on the hub, or its push was not ended.
    remedy = "push the run again"
    copied = copying.copy(source, target, runs=runs, kinds=kinds, layers=layers, remedy=remedy)
    shutil.rmtree(download, ignore_errors=True)
    return copied


@contextmanager
def _sound_store(
    source: Store,
    runs: Sequence[str] | None,
    kinds: Sequence[Kind] | None,
    layers: LayerChoice | None,
) -> Iterator[tuple[Store, list[str]]]:
    """Yield a store in a folder with what is chosen and not damaged, and a line for each part or
    result that is. It is the store itself where that is so, else a copy.
    """
    # The store itself is pushed only if all of it is meant and every byte is as it was written.
    is_all = runs is None and kinds is None and layers is None
    if is_all and mirror_of(source.path) is None and not verify(source):
        yield source, []
        return
    with TemporaryDirectory(prefix="kvtool-push-") as scratch:
        store = open_store(Path(scratch) / "store.kv", create=True)
        copied = copying.copy(source, store, runs=runs, kinds=kinds, layers=layers)
        yield store, copied.left_out()


def _check_hub_runs(folder: HubFolder, runs: Sequence[Run]) -> None:
    """Raise RunConflictError where the hub has other runs of these names: parts of both would lie
    in a folder.
    """
    on_hub = [run for run in runs if folder.has_file(f"runs/{run.name}/{layout.ZARR_JSON}")]
    if not on_hub:
        return
    names = [
        f"runs/{run.name}/{name}"
        for run in on_hub
        for name in (layout.ZARR_JSON, f"{layout.ROSTER}/*")
    ]
    with TemporaryDirectory(prefix="kvtool-push-") as scratch:
        hub_store = Store(folder.download(Path(scratch), folder.commit(), names))
        for run in on_hub:
            check_conflict(hub_store, run.config, folder.address)
            # Equal settings are not enough: the order of images must be the same, too.
            for segment in layout.entries(hub_store.path / "runs" / run.name / layout.ROSTER):
                ours = run.folder / layout.ROSTER / segment.name / layout.ZARR_JSON
                if ours.is_file() and read_file(segment / layout.ZARR_JSON) != read_file(ours):
                    raise other_images(run.name, folder.address)


def _download_folder(target: Target, commit: str) -> Path:
    """Return the folder beside a store into which a commit is downloaded."""
    name = f"pull-{commit[:_COMMIT_DIGITS]}"
    # The mirror of an object store lies among files of its own: a pull goes to the cache.
    path = target.path if isinstance(target, Store) else Path(target)
    if mirror_of(path) is not None or remote_address(path) is not None:
        return cache_folder() / "pulls" / name
    path = path.absolute()
    return path.parent / f"{path.name}.{name}"


def _stored_parts(store: Store, run: str) -> set[str]:
    return {path.name for path in layout.entries(layout.run_path(store.path, run) / "parts")}


def _needed(
    choice: Sequence[tuple[Run, RunConfig]], target: Store | None
) -> tuple[list[str], list[str]]:
    """Return patterns of the files that a copy reads, and of those among them that it does not,
    since the target has their parts.
    """
    names: set[str] = set()
    ignored = []
    is_whole = {run.name: config.hash == run.config.hash for run, config in choice}
    for run, config in choice:
        parts_path = f"runs/{run.name}/parts"
        stored = set() if target is None else _stored_parts(target, config.name)
        names |= {f"runs/{run.name}/text/*"} | (
            {f"{parts_path}/*"} if is_whole[run.name] else set()
        )
        for part in open_parts(run, "parts", []):
            if part.folder.name in stored:
                ignored.append(f"{parts_path}/{part.folder.name}/*")
            elif not is_whole[run.name]:
                files = source_files(part, run.config, config)
                names |= {f"{parts_path}/*/{name}" for name in files}
    if all(is_whole.values()):
        names |= {f"{layout.RESULTS}/*", f"{layout.PICTURES}/*"}
    return sorted(names), ignored

"""A store on an object store as it is opened: a folder of the cache with its small files.

The folder is laid out as a store of its own, so that all that reads a store reads it. Of committed
folders it has the texts (zarr.json, manifests, rosters) and results, and what is read of arrays
comes by ranges from the objects. What is committed is written in the folder's tmp/ as ever, then
put under a name of its own, and one conditional PUT makes it part of the store; see commits.py.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from kvtool.store import layout
from kvtool.store.durable import FileRecord, TornError, check_files
from kvtool.store.locks import Owner
from kvtool.store.objects.bucket import Bucket
from kvtool.store.objects.commits import COMMITS, Commit, commit_key, version_of
from kvtool.store.objects.conditions import check_conditions
from kvtool.store.objects.index import COMPACT_COMMITS, Index, View
from kvtool.store.objects.leases import lease, live_leases
from kvtool.store.objects.mirrored_files import fetch_results, locked, write_mirrored
from kvtool.store.objects.orphans import committed_depth, find_orphans
from kvtool.store.objects.remote_files import BucketFile

REFRESH_S = 2.0
"""For so long what was looked at counts as of now; a claim and a commit that was lost look again.
"""
_UPLOADS = 8


class BucketMirror:
    """The mirror of a store, see kvtool.store.mirrors.Mirror.

    root: the folder that is laid out as a store; beside it lie a lock, and what is known of the
    index.
    """

    def __init__(self, bucket: Bucket, root: Path) -> None:
        self._bucket = bucket
        self._root = root
        self._index = Index(bucket, root.parent / "index")
        self._refreshed_s = float("-inf")
        self._known: set[str] | None = None
        self._is_conditional = False
        self._commits = 0

    @property
    def address(self) -> str:
        """The address of the store."""
        return self._bucket.address

    def refresh(self, at_once: bool = False) -> None:
        """Bring the folder up to date with what was committed and removed since."""
        # A request for every look would make a loop over parts slow.
        if not at_once and time.monotonic() - self._refreshed_s < REFRESH_S:
            return
        # Under the lock of the folder, which several processes of this machine share.
        with locked(self._root.parent):
            view = self._index.look(self._mirrored)
            # Runs come before their parts in this order: a part without its run is not mirrored.
            for commit in sorted(view.changed, key=lambda commit: commit.path):
                if view.versions.get(commit.path) == commit.version:
                    self._mirror(commit)
            # Listing the folder is needed only where something that was known is gone.
            if self._known is None or not self._known <= view.versions.keys():
                self._drop_others(view)
            self._known = set(view.versions)
            self._index.remember(view)
        self._refreshed_s = time.monotonic()

    def refresh_results(self) -> None:
        """Bring the results of the folder up to date."""
        with locked(self._root.parent):
            fetch_results(self._bucket, layout.results_path(self._root))

    def file(self, path: Path) -> BucketFile | None:
        """Return the object of a file of a committed folder, or of a result."""
        names = path.relative_to(self._root).parts
        if names[0] == layout.RESULTS and len(names) == 2:
            return BucketFile(self._bucket, "/".join(names))
        # Only files below a committed folder have objects: claims and scratch files have none.
        depth = committed_depth(names)
        if not 0 < depth < len(names):
            return None
        key = self._key(self._root.joinpath(*names[:depth]))
        return BucketFile(self._bucket, "/".join([key, *names[depth:]])) if key else None

    def sizes(self, folder: Path) -> dict[str, int]:
        """Return the size of each object of a committed folder, by its name there."""
        key = self._key(folder)
        return {} if key is None else self._sizes(key)

    def complete(self, folder: Path) -> None:
        """Fetch the files of a committed folder that the mirror lacks. Raises StoreError."""
        if not folder.is_dir():
            return
        commit = self._index.load(self._path_of(folder))
        for name in () if commit is None else commit.files:
            if commit is None or (folder / name).exists():
                continue
            data = self._bucket.get(f"{commit.folder}/{name}")
            if data is not None:  # whoever reads it compares it with its checksum
                write_mirrored(folder / name, data)

    def commit(self, tmp: Path, target: Path, files: Mapping[str, FileRecord]) -> bool:
        """Put a written folder and make it part of the store. False: another writer was first.

        Raises StoreError, and TornError where its objects are not what was written.
        """
        self._check_conditions()
        # Read back before it is sent, as before a rename in a folder.
        check_files(tmp, files)
        commit = Commit.of(tmp, self._path_of(target), files)
        # Objects first: they lie where nobody looks until the commit names them.
        if not commit.is_text:
            self._upload(tmp, commit)
        # The marker comes before the commit, so that none is ever without a trace in the index.
        self._index.announce(commit)
        if self._bucket.create(commit.key, commit.to_bytes()) is None:
            winner = self._index.load(commit.path)
            # A request whose answer was lost is sent again, and then meets its own commit.
            if winner is None or winner.token != commit.token:
                self._withdraw(commit, winner)
                shutil.rmtree(tmp)
                self.refresh(at_once=True)
                return False
        # A commit whose objects are not as they were sent is taken back before anyone relies on it.
        self._check_objects(commit, target)
        with locked(self._root.parent):
            self._mirror(commit)
            if self._known is not None:
                self._known.add(commit.path)
        shutil.rmtree(tmp)
        # Now and then commits are put together, or listing their markers would take long.
        self._commits += 1
        if self._commits % COMPACT_COMMITS == 0:
            self._index.compact(COMPACT_COMMITS)
        return True

    def save(self, path: Path, data: bytes) -> None:
        """Put a file that is replaced as a whole, and give it to the folder."""
        # The object first: what others see is on the object store.
        self._bucket.put(self._path_of(path), data)
        with locked(self._root.parent):
            write_mirrored(path, data)

    def remove(self, target: Path) -> None:
        """Remove a result, or a committed folder with all below it."""
        path = self._path_of(target)
        if target.parent == layout.results_path(self._root):
            self._bucket.delete([path])
            return
        # The index first: from then on no other process sees the folder.
        self._index.forget(path)
        commit = self._index.load(path)
        # Members go before their run, and objects last: what is half removed is seen by nobody.
        keys = [entry.key for entry in self._bucket.list(f"{COMMITS}/{path}")]
        self._bucket.delete([*keys, commit_key(path)])
        folders = [path] if commit is None else [path, commit.folder]
        self._bucket.delete(entry.key for key in folders for entry in self._bucket.list(key))

    def lease(self, path: Path, what: str, wait_s: float) -> AbstractContextManager[Owner]:
        """Hold the claim at `path`; what was committed before it is seen then."""
        return self._lease(self._path_of(path), what, wait_s)

    @contextmanager
    def _lease(self, key: str, what: str, wait_s: float) -> Iterator[Owner]:
        self._check_conditions()
        with lease(self._bucket, key, what, wait_s) as owner:
            self.refresh(at_once=True)
            yield owner

    def leases(self, folder: Path) -> dict[str, Owner | None]:
        """Return the owners of the claims of a folder that are alive, by what they claim."""
        return live_leases(self._bucket, self._path_of(folder))

    def zarr_store(self, folder: Path) -> Any:
        """Return what zarr opens in place of an array's folder, for reading alone."""
        from zarr.storage import ObjectStore, StorePath

        part = self._key(folder.parent)
        return StorePath(ObjectStore(self._bucket.objects, read_only=True), f"{part}/{folder.name}")

    def nbytes(self) -> dict[str, int]:
        """Return the size of every object by its key."""
        return {entry.key: entry.nbytes for entry in self._bucket.list("")}

    def prune(self, dry_run: bool) -> list[str]:
        """Delete what killed writers left, once it is old; return the folders."""
        # Nothing counts as mirrored here, so that the index alone says what there is.
        versions = self._index.look(lambda _: None).versions
        orphans = find_orphans(self._bucket, versions)
        if not dry_run:
            self._bucket.delete(key for keys in orphans.values() for key in keys)
        return sorted(orphans)

    def _check_conditions(self) -> None:
        """Raise StoreError, once a process, where the service ignores the condition of a PUT."""
        if not self._is_conditional:
            check_conditions(self._bucket)
            self._is_conditional = True

    def _upload(self, tmp: Path, commit: Commit) -> None:
        with ThreadPoolExecutor(_UPLOADS) as pool:
            keys = [f"{commit.folder}/{name}" for name in commit.files]
            list(pool.map(self._bucket.put, keys, [tmp / name for name in commit.files]))

    def _withdraw(self, commit: Commit, winner: Commit | None) -> None:
        """Delete what a writer put that was not first."""
        # A winner of the same version has the same objects, which must stay.
        if winner is None or winner.version != commit.version:
            self._index.retract(commit.path, commit.version)
            self._bucket.delete(f"{commit.folder}/{name}" for name in commit.files)

    def _check_objects(self, commit: Commit, target: Path) -> None:
        """Take a commit back where an object is lacking or has another size. Raises TornError."""
        if commit.is_text:
            return
        prefix = f"{commit.folder}/"
        # Sizes are enough here: the service compared each request's digest as it arrived.
        sizes = self._sizes(commit.folder)
        for name, (nbytes, _) in commit.files.items():
            if sizes.get(name) != nbytes:
                self.remove(target)
                raise TornError(
                    f"{self.address}/{prefix}{name}: expected {nbytes} bytes, found "
                    f"{sizes.get(name, 'no object')}: it was removed or changed while it was "
                    "written: run again"
                )

    def _sizes(self, key: str) -> dict[str, int]:
        """Return the size of each object below a key, by its name from there on."""
        return {entry.key.removeprefix(f"{key}/"): entry.nbytes for entry in self._bucket.list(key)}

    def _mirror(self, commit: Commit) -> None:
        """Give the folder the texts of a commit; a member of a run that is not there is none."""
        target = self._root / commit.path
        # The run's own folder is two names deep: without it a member has no place to lie.
        run = self._root.joinpath(*target.relative_to(self._root).parts[:2])
        if version_of(target) == commit.version or (run != target and not run.is_dir()):
            return
        target.parent.mkdir(exist_ok=True)
        # Written aside and renamed, so that a reader sees the folder whole.
        aside = self._root.parent / f"aside-{secrets.token_hex(8)}"
        for name, text in commit.texts.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
            # The time of the commit, for readers that tell the newest part by its file.
            os.utime(path, (commit.committed_s, commit.committed_s))
        if target.exists():
            replaced = aside.with_name(f"{aside.name}-replaced")
            target.rename(replaced)
            shutil.rmtree(replaced)
        aside.rename(target)

    def _drop_others(self, view: View) -> None:
        """Remove folders that the store has no longer."""
        # Results are not among them: they are brought up to date by their own listing.
        groups = [layout.runs_path(self._root), layout.pictures_path(self._root)]
        groups += [
            run / name
            for run in layout.entries(groups[0])
            for name in layout.RUN_GROUPS
            if name != layout.ROSTER  # whose segments go with their run alone
        ]
        for group in groups:
            for folder in layout.entries(group):
                if self._path_of(folder) not in view.versions:
                    shutil.rmtree(folder, ignore_errors=True)

    def _mirrored(self, path: str) -> str | None:
        return version_of(self._root / path)

    def _key(self, folder: Path) -> str | None:
        """Return what the objects of a committed folder lie below; None where it is not there."""
        version = version_of(folder)
        return f"{self._path_of(folder)}-{version}" if version else None

    def _path_of(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

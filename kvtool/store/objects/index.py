"""Which folders a store on an object store holds: an index of commits, and what came since.

A list of 30,000 commits, and a request for each of them, would take minutes. So commits are put
together: `index/<n>.json` holds some hundreds of them, and `recent/<folder>@<version>` is an empty
object for each that is in no segment yet. A writer puts that marker before its commit, and it goes
when a segment has the commit: so a commit is in a segment, or has its marker, or is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from kvtool import schema
from kvtool.errors import CorruptError
from kvtool.store.objects.bucket import Bucket, ObjectEntry
from kvtool.store.objects.commits import INDEX, RECENT, Commit, commit_key
from kvtool.store.sealed import SEAL, UNSEALED, sealed, unsealed

COMPACT_COMMITS = 256
"""So many commits without a segment are put together in one."""
REQUESTS = 16
"""Requests that are under way at once."""
Marker = tuple[str, str]
"""The path and the version of a commit."""


@dataclass(frozen=True)
class _Segment:
    """Commits that were put together."""

    commits: list[Commit]

    def to_bytes(self) -> bytes:
        return sealed({SEAL: UNSEALED, "commits": [asdict(commit) for commit in self.commits]})


@dataclass(frozen=True)
class _Seen:
    """What a mirror remembers of a segment: its object's tag, and version by path."""

    e_tag: str | None
    versions: dict[str, str]


@dataclass
class View:
    """What a store holds as of now: version by path, the commits that the mirror may lack, and
    the segments that they are of.
    """

    versions: dict[str, str]
    changed: list[Commit]
    segments: list[tuple[ObjectEntry, _Seen]]


class Index:
    """The index of a store, and the memory of its segments in a folder of the mirror."""

    def __init__(self, bucket: Bucket, memory: Path) -> None:
        self._bucket = bucket
        self._memory = memory
        self._seen: dict[str, _Seen] = {}
        memory.mkdir(parents=True, exist_ok=True)

    def load(self, path: str) -> Commit | None:
        """Return the commit of a folder, None where there is none. Raises CorruptError."""
        key = commit_key(path)
        data = self._bucket.get(key)
        return None if data is None else Commit.from_bytes(data, f"{self._bucket.address}/{key}")

    def announce(self, commit: Commit) -> None:
        """Put the marker of a commit that is about to be made."""
        self._bucket.put(_marker_key(commit.path, commit.version), b"")

    def retract(self, path: str, version: str) -> None:
        """Take the marker of a commit away that was not made."""
        self._bucket.delete([_marker_key(path, version)])

    def look(self, mirrored: Callable[[str], str | None]) -> View:
        """Return what there is now.

        mirrored: the version of a path that the mirror has. Markers are listed before segments: a
        commit that goes from one to the other meanwhile is seen twice and not overlooked.
        """
        markers = self._markers()
        view = View({}, [], [])
        # Segments that were rewritten or are new are read; of others the versions are known.
        for entry in self._segments():
            seen = self._remembered(entry)
            if seen is None:
                commits = self._read(entry.key).commits
                seen = _Seen(entry.version.e_tag, _versions(commits))
                view.changed += commits
                view.segments.append((entry, seen))
            view.versions |= seen.versions
        # A marker alone is no commit yet: those that the mirror lacks are looked up.
        unknown = []
        for path, version in markers:
            if mirrored(path) == version:
                view.versions[path] = version
            elif view.versions.get(path) != version:
                unknown.append((path, version))
        for commit in self._commits(unknown):
            view.versions[commit.path] = commit.version
            view.changed.append(commit)
        return view

    def remember(self, view: View) -> None:
        """Remember the segments of a view, once the mirror has their commits."""
        for entry, seen in view.segments:
            path = self._memory / Path(entry.key).name
            # Written aside, as another process may read the memory at this moment.
            aside = path.with_suffix(".part")
            aside.write_text(json.dumps(asdict(seen)))
            aside.replace(path)

    def compact(self, at_least: int) -> None:
        """Put commits that have a marker together, where there are at least so many of them.

        Of several who do so at once, one makes the segment.
        """
        markers = self._markers()
        if len(markers) < at_least:
            return
        segments = list(self._segments())
        # Commits that a segment has already: their markers were left by a process that ended.
        indexed: set[Marker] = set()
        for entry in segments:
            seen = self._remembered(entry)
            indexed |= (seen.versions if seen else _versions(self._read(entry.key).commits)).items()
        commits = self._commits([marker for marker in markers if marker not in indexed])
        if commits and not self._add(commits, len(segments)):
            return
        # Markers go last: until then a commit is in both places, which is harmless.
        self._bucket.delete(
            _marker_key(*marker)
            for marker in {*((commit.path, commit.version) for commit in commits), *indexed}
            & set(markers)
        )

    def _add(self, commits: list[Commit], number: int) -> bool:
        """Make a segment of commits. False: another process made one of this number."""
        key = f"{INDEX}/{number:07d}.json"
        version = self._bucket.create(key, _Segment(commits).to_bytes())
        if version is None:
            return False
        # Who removes a folder takes its marker first, then looks at the segments: one whose marker
        # went while this segment was made may have been removed before it was there.
        markers = set(self._markers())
        present = [commit for commit in commits if (commit.path, commit.version) in markers]
        if len(present) < len(commits):
            self._rewrite(key, lambda commit: (commit.path, commit.version) in markers)
        return True

    def forget(self, path: str) -> None:
        """Take a folder, and all below it, out of the index."""
        # Markers first, so that a segment that is being made notices the removal.
        markers = [marker for marker in self._markers() if _is_below(marker[0], path)]
        self._bucket.delete(_marker_key(*marker) for marker in markers)
        for entry in list(self._segments()):
            # A segment that is not known may hold the folder, and is read for it.
            seen = self._remembered(entry)
            if seen is None or any(_is_below(name, path) for name in seen.versions):
                self._rewrite(entry.key, lambda commit: not _is_below(commit.path, path))

    def _rewrite(self, key: str, stays: Callable[[Commit], bool]) -> None:
        """Leave commits out of a segment; should another process rewrite it meanwhile, again."""
        # The swap fails where another changed the segment since: then its new content is cut.
        while (fetched := self._bucket.fetch(key)) is not None:
            data, entry = fetched
            commits = self._parse(key, data).commits
            staying = [commit for commit in commits if stays(commit)]
            if len(staying) == len(commits):
                return
            if self._bucket.swap(key, _Segment(staying).to_bytes(), entry.version):
                return

    def _markers(self) -> list[Marker]:
        markers = []
        for entry in self._bucket.list(RECENT):
            path, _, version = entry.key.removeprefix(f"{RECENT}/").rpartition("@")
            markers.append((path, version))
        return markers

    def _segments(self) -> Iterator[ObjectEntry]:
        yield from sorted(self._bucket.list(INDEX), key=lambda entry: entry.key)

    def _read(self, key: str) -> _Segment:
        return self._parse(key, self._bucket.get(key) or b"")

    def _parse(self, key: str, data: bytes) -> _Segment:
        location = f"{self._bucket.address}/{key}"
        return schema.read(_Segment, unsealed(data, location), location)

    def _commits(self, markers: list[Marker]) -> list[Commit]:
        """Return the commits that markers announce; those not made, or made by another, are left
        out.
        """
        if not markers:
            # One request a commit, hence side by side.
            return []
        with ThreadPoolExecutor(REQUESTS) as pool:
            commits = list(pool.map(self.load, [path for path, _ in markers]))
        return [
            commit
            for commit, (_, version) in zip(commits, markers, strict=True)
            if commit is not None and commit.version == version
        ]

    def _remembered(self, entry: ObjectEntry) -> _Seen | None:
        """Return what is known of a segment; None where it is new or was rewritten."""
        # The tag of the object tells a segment that was rewritten from the one that was read.
        recent = self._seen.get(entry.key)
        if recent is not None and recent.e_tag == entry.version.e_tag:
            return recent
        path = self._memory / Path(entry.key).name
        try:
            seen = schema.read(_Seen, json.loads(path.read_text()), str(path))
        except (OSError, ValueError, CorruptError):
            return None
        if seen.e_tag != entry.version.e_tag:
            return None
        self._seen[entry.key] = seen
        return seen


def _versions(commits: list[Commit]) -> dict[str, str]:
    return {commit.path: commit.version for commit in commits}


def _marker_key(path: str, version: str) -> str:
    return f"{RECENT}/{path}@{version}"


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")

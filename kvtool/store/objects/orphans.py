"""Objects that no commit names: what writers that were killed have put."""

from __future__ import annotations

import time
from collections.abc import Mapping

from kvtool.store import layout
from kvtool.store.objects.bucket import Bucket
from kvtool.store.objects.commits import RECENT

ORPHAN_S = 86400.0
"""When objects without a commit belong to nobody: a part is put in minutes."""


def find_orphans(bucket: Bucket, versions: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the keys of objects, and of markers, without a commit that are ORPHAN_S old, by the
    folder that they were put for.

    versions: the version of each committed folder by its path.
    """
    # What is committed now, under the names that its objects and its marker have.
    folders = {f"{path}-{version}" for path, version in versions.items()}
    markers = {f"{RECENT}/{path}@{version}" for path, version in versions.items()}
    orphans: dict[str, list[str]] = {}
    for entry in bucket.list(""):
        names = tuple(entry.key.split("/"))
        if names[0] == RECENT:
            folder, is_orphan = entry.key, entry.key not in markers
        else:
            folder = "/".join(names[: committed_depth(names)])
            is_orphan = bool(folder) and folder not in folders
        # Young ones may be of a writer whose commit is still to come.
        if is_orphan and time.time() - entry.modified_s > ORPHAN_S:
            orphans.setdefault(folder, []).append(entry.key)
    return orphans


def committed_depth(names: tuple[str, ...]) -> int:
    """Return how many names of a path lead to the folder that was committed; 0 for none."""
    if names[0] == layout.PICTURES:
        return 2
    is_member = names[0] == "runs" and len(names) > 2 and names[2] in layout.RUN_GROUPS
    return 4 if is_member else 0

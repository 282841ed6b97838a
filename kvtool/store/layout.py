"""Names and paths of a store's files. The whole format is in docs/store-format.md.

STORE/zarr.json                        format version
STORE/runs/<run>/zarr.json             configuration of the run
STORE/runs/<run>/roster/<n>/           the run's images in order, as they became known
STORE/runs/<run>/parts/<part>/         images: zarr.json, then one folder an array
STORE/runs/<run>/text/<start>/         vectors of class names and expressions
STORE/runs/<run>/locks/<part>.claim    who works on what
STORE/runs/<run>/indexes/<name>/       search indexes, built when first asked for
STORE/results/<key>.json               results of probes and analyses
STORE/pictures/<key>/                  pictures drawn for questions, with what they show
STORE/ledger/                          an entry for each of these, see ledger.py
STORE/tmp/<process>-<seq>/             what is being written; never read
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from kvtool.errors import UsageError

FORMAT_VERSION = 2
ZARR_JSON = "zarr.json"
ROOT_FOLDERS = ("runs", "results", "tmp")
LEDGER = "ledger"
ROOT_COPY = "store.json"
"""In the ledger, a copy of the store's own zarr.json."""
ROSTER = "roster"
RESULTS = "results"
LOCKS = "locks"
RUN_FOLDERS = ("parts", "text", LOCKS, ROSTER)
INDEXES = "indexes"
"""A folder that a run has once it was searched."""
PICTURES = "pictures"
"""A folder that a store has once questions were drawn."""
PLAIN_FOLDERS = (RESULTS, "tmp", LEDGER, PICTURES)
"""Folders of a store whose files are not Zarr: their zarr.json keeps zarr out of them, see
files.leaf_json.
"""
RUN_GROUPS = (*(name for name in RUN_FOLDERS if name != LOCKS), INDEXES)
"""Folders of a run whose members are committed one by one."""
REPAIR = "`kvtool store repair` drops it, then extract again"

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]{0,199}")
_LITTER = re.compile(r"\.DS_Store|\._.*|\.Trash.*|\.nfs.*|\.snapshot|\.fuse_hidden.*|\.now-.*")
"""What file managers, file servers and clocks leave behind: never looked at."""
_PART_NAME = re.compile(r"(\d{7,})-(\d{7,})")


def runs_path(store: Path) -> Path:
    """Return the folder of a store's runs."""
    return store / "runs"


def run_path(store: Path, run: str) -> Path:
    """Return the folder of a run."""
    return runs_path(store) / run


def results_path(store: Path) -> Path:
    """Return the folder of a store's results."""
    return store / "results"


def pictures_path(store: Path) -> Path:
    """Return the folder of a store's pictures."""
    return store / PICTURES


def ledger_path(store: Path) -> Path:
    """Return the folder of a store's ledger."""
    return store / LEDGER


def tmp_path(store: Path) -> Path:
    """Return the folder of what is being written."""
    return store / "tmp"


def is_litter(name: str) -> bool:
    """Return whether a file or folder is none of ours and none of anybody's interest."""
    return _LITTER.fullmatch(name) is not None


def entry_names(folder: Path, within: range | None = None) -> list[str]:
    """Return the sorted names of what lies in a folder, but its zarr.json and litter; nothing where
    there is no such folder.

    within: leave out the parts that hold no image of this range.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208 -- paths of all parts take longer than the rest
    except (FileNotFoundError, NotADirectoryError):
        return []
    if within is not None:
        names = _parts_within(names, within)
    return sorted(name for name in names if name != ZARR_JSON and not is_litter(name))


def entries(folder: Path) -> list[Path]:
    """Return the paths of what entry_names names."""
    return [folder / name for name in entry_names(folder)]


def check_name(name: str, what: str) -> str:
    """Return a name that is also a file name on every system. Raises UsageError."""
    if not _SAFE_NAME.fullmatch(name):
        raise UsageError(
            f"{what} {name!r}: expected a letter or digit, then letters, digits and . _ + = @ - "
            "(200 at most)"
        )
    return name


def part_name(start: int, stop: int) -> str:
    """Return the name of the part that holds (some of) the images start..stop-1 of the data set's
    order.
    """
    return f"{start:07d}-{stop:07d}"


def part_range(name: str) -> tuple[int, int] | None:
    """Return the inverse of part_name; None where the name is no part's."""
    match = _PART_NAME.fullmatch(name)
    if match is None or int(match[1]) >= int(match[2]):
        return None
    return int(match[1]), int(match[2])


def _parts_within(names: list[str], within: range) -> list[str]:
    """Return the names of the parts that may hold images of a range, and of what is no part.

    All parts of a run are looked at each time that one is committed, so most are told apart by
    their text.
    """
    # Equal widths make the order of texts that of numbers; other names are parsed below.
    start, stop = part_name(within.start, within.stop).split("-")
    width = len(start)
    if width == len(stop):
        length = 2 * width + 1
        names = [
            name
            for name in names
            if (name[-width:] > start and name[:width] < stop) or len(name) != length
        ]
    spans = ((name, part_range(name)) for name in names)
    return [
        name
        for name, span in spans
        if span is None or (span[0] < within.stop and span[1] > within.start)
    ]

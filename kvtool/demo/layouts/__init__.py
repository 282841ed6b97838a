"""The embedded world on disk, in the official layouts of twelve data sets: `write_scenes`.

A data set is written to a hidden folder, which is renamed when it is complete, so that a folder
with the data set's name is always whole. `scenes.json` says with which seed and size the folders
beside it were drawn.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kvtool.demo.layouts.files import Size, save_json
from kvtool.errors import DatasetError, UsageError
from kvtool.registry import Registry

LAYOUTS = Registry(
    "scenes data set",
    {
        "pascal5i": "kvtool.demo.layouts.pascal5i:write",
        "msrc": "kvtool.demo.layouts.msrc:write",
        "imagenet-s": "kvtool.demo.layouts.imagenet_s:write",
        "refcoco": "kvtool.demo.layouts.refcoco:write",
        "spair71k": "kvtool.demo.layouts.spair71k:write",
        "davis": "kvtool.demo.layouts.davis:write",
        "coco": "kvtool.demo.layouts.coco:write",
        "pope": "kvtool.demo.layouts.pope:write",
        "mme": "kvtool.demo.layouts.mme:write",
        "blink": "kvtool.demo.layouts.blink:write",
        "cvbench": "kvtool.demo.layouts.cvbench:write",
        "bdd10k": "kvtool.demo.layouts.bdd10k:write",
    },
)
NEEDS = {"pope": "coco"}
"""POPE's questions are about the images of COCO."""
SIZES = ("small", "medium", "large")
MANIFEST = "scenes.json"
VERSION = 1
"""The version is raised whenever the same seed would draw other bytes."""
Progress = Callable[[str, int, int], None]


def write_scenes(
    root: Path,
    *,
    seed: int = 0,
    size: Size = "small",
    only: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write the data sets that do not exist yet; what `only` says does not change their bytes.

    Args:
        root: The folder that gets a folder for each data set; it is made if it is missing.
        seed: The random seed of everything that is drawn, 0 or more.
        size: Small takes seconds, medium has hundreds of images a data set, large thousands.
        only: Names of LAYOUTS, by default all; pope brings coco with it.
        progress: Is called before each data set with its name, its index, and their number.

    Returns:
        The number of images of each data set written now. Complete ones are left alone.

    Raises:
        UsageError: The data set or the size is unknown, or the seed is negative.
        DatasetError: The folder holds scenes of another seed, size or version, or other files.
    """
    _check(size, seed)
    names = _selection(only)
    try:
        # The manifest comes first: folders that are met later are known to be made here.
        _claim(root, {"schema": "kvtool.scenes", "version": VERSION, "seed": seed, "size": size})
        _sweep(root)
        counts = {}
        # A data set that is there is complete, since it was renamed last.
        for index, name in enumerate(names):
            if progress is not None:
                progress(name, index, len(names))
            if not (root / name).exists():
                counts[name] = _write(root, name, seed, size)
    except OSError as error:
        raise DatasetError(
            f"{error.filename or root}: scenes cannot be written here: {error.strerror or error}"
        ) from error
    return counts


def _check(size: Size, seed: int) -> None:
    if size not in SIZES:
        raise UsageError(f"scenes: size must be one of {', '.join(SIZES)}, found {size!r}")
    if seed < 0:
        raise UsageError(f"scenes: seed must be 0 or more, found {seed}")


def _selection(only: Sequence[str] | None) -> list[str]:
    """Return the names to write, without repeats and in the order of the table."""
    names = set(LAYOUTS.names() if only is None else only)
    for name in sorted(names - set(LAYOUTS.names())):
        raise UsageError(LAYOUTS.unknown(name))
    names |= {NEEDS[name] for name in names if name in NEEDS}
    return [name for name in LAYOUTS.names() if name in names]


def _claim(root: Path, manifest: dict[str, Any]) -> None:
    """Mark the folder as ours before anything is written.

    A data set's folder that is met later is thus known to be ours.
    """
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root}: expected a folder to write scenes into, found a file")
    path = root / MANIFEST
    if path.exists():
        _compare(path, manifest)
        return
    # Folders without a manifest are somebody else's.
    for name in LAYOUTS.names():
        if (root / name).exists():
            raise DatasetError(
                f"{root / name}: exists without a {MANIFEST} beside it: choose another folder"
            )
    root.mkdir(parents=True, exist_ok=True)
    aside = root / f"{_hidden_prefix()}{os.getpid()}-{MANIFEST}"
    save_json(aside, manifest)
    aside.replace(path)
    # Another process may have claimed the folder at the same moment.
    _compare(path, manifest)


def _compare(path: Path, manifest: dict[str, Any]) -> None:
    try:
        stored = json.loads(path.read_text())
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or stored.get("schema") != manifest["schema"]:
        raise DatasetError(
            f"{path}: expected a scenes folder's manifest, found something else: "
            "choose another folder"
        )
    for field in ("version", "seed", "size"):
        if stored.get(field) != manifest[field]:
            raise DatasetError(
                f"{path.parent}: holds scenes of {field} {stored.get(field)}, "
                f"asked for {manifest[field]}: choose another folder, or remove this one"
            )


def _hidden_prefix() -> str:
    return f".scenes-{socket.gethostname()}-"


def _sweep(root: Path) -> None:
    """Remove what writers of this machine left behind when they were killed."""
    import psutil

    for leftover in root.glob(f"{_hidden_prefix()}*"):
        pid = leftover.name.removeprefix(_hidden_prefix()).split("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _write(root: Path, name: str, seed: int, size: Size) -> int:
    """Write one data set aside, then move it to its name.

    When another process was first, its folder, which is equal, stays.
    """
    aside = Path(tempfile.mkdtemp(dir=root, prefix=f"{_hidden_prefix()}{os.getpid()}-"))
    try:
        n_images: int = LAYOUTS.load(name)(aside, seed, size)
        # Temporary folders are for their owner alone: data sets are readable to all.
        aside.chmod(0o755)
        try:
            aside.rename(root / name)
        except OSError:
            if not (root / name).is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return n_images

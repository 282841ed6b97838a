"""The folder of a store: made with all that belongs to an empty one, and its version checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvtool.errors import StoreError
from kvtool.store import layout
from kvtool.store.durable import make_folder
from kvtool.store.files import close_plain_folders, replace_file, scratch_folder
from kvtool.store.sealed import group_json, read_group

VERSION_FIELD = "kvtool_store_version"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
"""A pathlib.Path has lost the second slash. One letter may be a drive."""


def create_store(folder: Path) -> None:
    """Make a store in a new or an empty folder, its zarr.json last.

    Raises StoreError or OSError.
    """
    check_new(folder)
    make_folder(folder)
    for name in (*layout.ROOT_FOLDERS, layout.LEDGER):
        make_folder(folder / name)
    with scratch_folder(folder) as tmp:
        root = group_json({VERSION_FIELD: layout.FORMAT_VERSION})
        replace_file(layout.runs_path(folder) / layout.ZARR_JSON, group_json({}), tmp)
        close_plain_folders(folder, tmp)
        # The copy in the ledger before the original, which alone makes the folder a store.
        replace_file(layout.ledger_path(folder) / layout.ROOT_COPY, root, tmp)
        replace_file(folder / layout.ZARR_JSON, root, tmp)


def check_new(folder: Path) -> None:
    """Raise StoreError where no store can be made in a folder, which need not be there: within
    another store, and among files that are none of a store.
    """
    # A store within another would be taken for foreign files by `store verify`.
    _check_outside(folder)
    if not folder.exists():
        return
    # An earlier attempt may have been ended in between: its own folders are no obstacle.
    ours = (layout.ZARR_JSON, layout.LEDGER, layout.PICTURES, *layout.ROOT_FOLDERS)
    foreign = [
        entry.name
        for entry in folder.iterdir()
        if entry.name not in ours and not entry.name.startswith(".")
    ]
    if foreign:
        raise StoreError(
            f"store {folder}: expected an empty folder for a new store, found {foreign[0]!r}: "
            "name another path"
        )


def check_place(path: str | os.PathLike[str], create: bool) -> None:
    """Raise StoreError where a path is a URL of a service that no store can be on, or a file.

    create: whether a store may be made there.
    """
    if Path(path).exists():
        if not Path(path).is_dir():
            raise StoreError(f"store {path}: expected a folder, found a file: name another path")
        return
    match = _URL.match(os.fspath(path))
    if match is None:
        return
    address = f"{match[1]}://{os.fspath(path)[match.end() :]}"
    what, remedy = "another URL", "copy or mount it, then name that folder"
    # A store on the hub is neither read nor written where it is, but there is a way to and fro.
    if match[1] == "hf":
        what = "one of the Hugging Face hub"
        remedy = (
            f"`kvtool store push STORE {address}` copies a store there"
            if create
            else f"`kvtool store pull {address} FOLDER`, then name that folder"
        )
    raise StoreError(
        f"store {address}: expected a folder or an address s3://, gs:// or az://, found {what}: "
        f"{remedy}"
    )


def _store_around(folder: Path) -> Path | None:
    """Return the store that a folder is within; None where there is none."""
    for parent in folder.resolve().parents:
        with suppress(OSError, StoreError):  # whatever else is there is no store
            if VERSION_FIELD in read_group(parent, str(parent)):
                return parent
    return None


def _check_outside(folder: Path) -> None:
    """Raise StoreError where a folder is within a store, which would take it for damage."""
    if (store := _store_around(folder)) is not None:
        raise StoreError(
            f"store {folder}: expected a folder outside of other stores, found it within {store}: "
            "name another path"
        )


def check_version(folder: Path) -> None:
    """Raise StoreError where a folder is no store of the version that this code reads."""
    try:
        attributes = read_group(folder, f"store {folder}")
    except FileNotFoundError:
        what = "a folder without zarr.json" if folder.exists() else "nothing"
        raise StoreError(
            f"store {folder}: expected a kvtool store, found {what}: `kvtool extract` makes one"
        ) from None
    # Looked for only in an error, to say which folder was meant.
    surrounding = None if VERSION_FIELD in attributes else _store_around(folder)
    check_format(str(folder), attributes, surrounding)


def check_format(
    address: str, attributes: Mapping[str, Any], surrounding: Path | None = None
) -> None:
    """Raise StoreError where the attributes of a Zarr group are none of a store of the version that
    this code reads.

    surrounding: the store that the group is within.
    """
    if VERSION_FIELD not in attributes:
        what, remedy = (
            ("another Zarr group", "name another path")
            if surrounding is None
            else ("a folder within one", f"name {surrounding}")
        )
        raise StoreError(f"store {address}: expected a kvtool store, found {what}: {remedy}")
    version = attributes[VERSION_FIELD]
    if version != layout.FORMAT_VERSION:
        raise StoreError(
            f"store {address}: expected format version {layout.FORMAT_VERSION}, found {version}: "
            "use the kvtool that wrote it"
        )

"""The folder of a store: made with all that belongs to an empty one, and its version checked."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from kvtool.errors import StoreError
from kvtool.store import layout
from kvtool.store.durable import make_folder
from kvtool.store.files import close_plain_folders, replace_file, scratch_folder
from kvtool.store.sealed import group_json, read_group

VERSION_FIELD = "kvtool_store_version"


def create_store(folder: Path) -> None:
    """Make a store in a new or an empty folder, its zarr.json last.

    Raises StoreError or OSError.
    """
    _check_outside(folder)
    make_folder(folder)
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
    for name in (*layout.ROOT_FOLDERS, layout.LEDGER):
        make_folder(folder / name)
    with scratch_folder(folder) as tmp:
        root = group_json({VERSION_FIELD: layout.FORMAT_VERSION})
        replace_file(layout.runs_path(folder) / layout.ZARR_JSON, group_json({}), tmp)
        close_plain_folders(folder, tmp)
        replace_file(layout.ledger_path(folder) / layout.ROOT_COPY, root, tmp)
        replace_file(folder / layout.ZARR_JSON, root, tmp)


def _check_outside(folder: Path) -> None:
    """Raise StoreError where a folder is within a store, which would take it for damage."""
    for parent in folder.resolve().parents:
        with suppress(OSError, StoreError):  # whatever else is there is no store
            if VERSION_FIELD in read_group(parent, str(parent)):
                break
    else:
        return
    raise StoreError(
        f"store {folder}: expected a folder outside of other stores, found it within {parent}: "
        "name another path"
    )


def check_version(folder: Path) -> None:
    """Raise StoreError where a folder is no store of the version that this code reads."""
    try:
        version = read_group(folder, f"store {folder}").get(VERSION_FIELD)
    except FileNotFoundError:
        what = "a folder without zarr.json" if folder.exists() else "nothing"
        raise StoreError(
            f"store {folder}: expected a kvtool store, found {what}: `kvtool extract` makes one"
        ) from None
    if version != layout.FORMAT_VERSION:
        raise StoreError(
            f"store {folder}: expected format version {layout.FORMAT_VERSION}, found {version}: "
            "use the kvtool that wrote it"
        )

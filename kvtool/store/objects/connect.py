"""The way from an address to the mirror of its store."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path, PurePosixPath

from kvtool.store import layout, mirrors
from kvtool.store.objects.addresses import mirrors_folder
from kvtool.store.objects.bucket import Bucket, full_address
from kvtool.store.objects.mirror import BucketMirror
from kvtool.store.objects.mirrored_files import locked, write_mirrored
from kvtool.store.sealed import group_json, unsealed
from kvtool.store.store_folder import VERSION_FIELD, check_format, create_store

_OPENING_RETRIES = 2
"""A wrong endpoint is told at once; a service that answered once may fall silent for minutes."""


def connect(address: str, create: bool = False) -> Path | None:
    """Return the folder of the mirror of a store, which is registered and up to date.

    None where there is no store, unless it is to be made. Raises StoreError of one line where the
    service cannot be reached, or refuses.
    """
    root = _mirror_root(address)
    root_json = Bucket.open(address, retries=_OPENING_RETRIES).get(layout.ZARR_JSON)
    bucket = Bucket.open(address)
    if root_json is None:
        if not create:
            return None
        # Another process may make it at the same time: its zarr.json is the same.
        bucket.create(layout.ZARR_JSON, group_json({VERSION_FIELD: layout.FORMAT_VERSION}))
    else:
        _check_version(address, root_json)
    root.parent.mkdir(parents=True, exist_ok=True)
    # Workers of one machine share the cache and may begin at once: one of them makes the mirror.
    with locked(root.parent):
        if not (root / layout.ZARR_JSON).exists():
            _make_mirror(root, address)
        # One mirror a process: a second one would not know what the first has seen.
        mirror = mirrors.mirror_of(root)
        if not isinstance(mirror, BucketMirror):
            mirror = BucketMirror(bucket, root)
            mirrors.register(root, mirror)
    mirror.refresh(at_once=True)
    mirror.refresh_results()
    return root


def _make_mirror(root: Path, address: str) -> None:
    """Make the folder of a mirror, whole or not at all: an empty store, which is then filled from
    the index of commits.
    """
    write_mirrored(root.parent / "address", address.encode())
    # Made aside and renamed, so that a process that is killed meanwhile leaves no half of one.
    aside = root.parent / f"aside-{secrets.token_hex(8)}"
    try:
        create_store(aside)
        shutil.rmtree(layout.ledger_path(aside))  # commits stand in its place
        # A folder without zarr.json is what an attempt of an earlier kvtool left.
        if root.exists():
            shutil.rmtree(root)
        aside.rename(root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _mirror_root(address: str) -> Path:
    """Return the folder of a mirror; an address means another store at another server."""
    digest = hashlib.sha256(full_address(address).encode()).hexdigest()[:16]
    return mirrors_folder() / digest / PurePosixPath(address).name


def _check_version(address: str, root_json: bytes) -> None:
    """Raise StoreError where a store has another version than this code reads."""
    label = f"store {address}: {layout.ZARR_JSON}"
    attributes = unsealed(root_json, label).get("attributes")
    check_format(address, attributes if isinstance(attributes, dict) else {})

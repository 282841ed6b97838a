"""The way from an address to the mirror of its store."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePosixPath

from kvtool.store import layout, mirrors
from kvtool.store.objects.addresses import mirrors_folder
from kvtool.store.objects.bucket import Bucket, full_address
from kvtool.store.objects.mirror import BucketMirror
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
    # The mirror is an empty store at first, which is then filled from the index of commits.
    if not (root / layout.ZARR_JSON).exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        (root.parent / "address").write_text(address)
        create_store(root)
        shutil.rmtree(layout.ledger_path(root))  # commits stand in its place
    # One mirror a process: a second one would not know what the first has seen.
    mirror = mirrors.mirror_of(root)
    if not isinstance(mirror, BucketMirror):
        mirror = BucketMirror(bucket, root)
        mirrors.register(root, mirror)
    mirror.refresh(at_once=True)
    mirror.refresh_results()
    return root


def _mirror_root(address: str) -> Path:
    """Return the folder of a mirror; an address means another store at another server."""
    digest = hashlib.sha256(full_address(address).encode()).hexdigest()[:16]
    return mirrors_folder() / digest / PurePosixPath(address).name


def _check_version(address: str, root_json: bytes) -> None:
    """Raise StoreError where a store has another version than this code reads."""
    label = f"store {address}: {layout.ZARR_JSON}"
    attributes = unsealed(root_json, label).get("attributes")
    check_format(address, attributes if isinstance(attributes, dict) else {})

"""Where a copy goes: an open store, or the path of one that is made once there is something to
write.
"""

from __future__ import annotations

import os
from pathlib import Path

from kvtool.store import layout
from kvtool.store.catalog import Store, existing_store, open_store
from kvtool.store.files import os_errors
from kvtool.store.objects.addresses import remote_address
from kvtool.store.store_folder import check_new, check_place

Target = Store | str | os.PathLike[str]
"""An open store, or the path or address of one that may not be there."""


def opened_target(target: Target) -> Store | None:
    """Return the store that is there; None where it is to be made. Writes nothing.

    Raises StoreError where neither can be.
    """
    if isinstance(target, Store):
        return target
    if remote_address(target) is not None:
        return existing_store(target)
    folder = Path(target)
    if (folder / layout.ZARR_JSON).exists():
        return open_store(folder)
    # What making it would refuse is refused now, before anything is fetched or written.
    with os_errors(f"store {folder}: cannot be opened"):
        check_place(target, create=True)
        check_new(folder)
    return None


def made_target(target: Target) -> Store:
    """Return the store, made where it is not there. Raises StoreError."""
    return target if isinstance(target, Store) else open_store(target, create=True)

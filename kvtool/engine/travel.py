"""Arguments of a call that travels to another process: open stores and runs go by their names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool.store import Run, Store, open_store
from kvtool.store.mirrors import address_of
from kvtool.store.objects.addresses import remote_address

SERVICES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
"""How the variables of an object store's service begin, by the scheme of its addresses."""


@dataclass(frozen=True)
class StoreName:
    """An open store, as it travels."""

    path: str


@dataclass(frozen=True)
class RunName:
    """An open run, as it travels."""

    store: str
    name: str


def sent(value: Any) -> Any:
    """Return a value as it travels: stores and runs, also in lists and mappings, by their names."""
    if isinstance(value, Run):
        return RunName(_address(value.store), value.name)
    if isinstance(value, Store):
        return StoreName(_address(value.path))
    return _within(value, sent)


def _address(folder: Path) -> str:
    """Return what opens a store anywhere: its address on an object store, else its path."""
    address = address_of(folder)
    return str(folder.absolute()) if address == str(folder) else address


def received(value: Any) -> Any:
    """Return a value as it was before it traveled: stores and runs are opened again."""
    if isinstance(value, RunName):
        return open_store(value.store).run(value.name)
    if isinstance(value, StoreName):
        return open_store(value.path)
    return _within(value, received)


def store_folders(arguments: Mapping[str, Any]) -> set[str]:
    """Return the folders of the stores that a call's travelling arguments name: `target`, or
    `stores`.
    """
    targets = arguments.get("stores", arguments.get("target"))
    several = targets if isinstance(targets, list | tuple) else [targets]
    return {str(_folder(target)) for target in several if target is not None}


def variables_for(stores: Iterable[str]) -> dict[str, str]:
    """Return the variables of this process that workers on other machines need: kvtool's own, and
    where some of the stores are on object stores, the endpoints and credentials of their services.
    """
    # Only the services in use: credentials of others stay at home.
    addresses = [address for store in stores if (address := remote_address(store)) is not None]
    services = {SERVICES[address.partition(":")[0]] for address in addresses}
    prefixes = ("KVTOOL_", *services)
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def _folder(target: Any) -> Any:
    """Return the folder of a store, by its path or as it travels."""
    if isinstance(target, RunName):
        return target.store
    return target.path if isinstance(target, StoreName) else target


def _within(value: Any, change: Any) -> Any:
    """Return a list, tuple or mapping whose members are changed; anything else as it is."""
    # Exactly these types: a subclass, such as a named tuple, could not be built from its members.
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(change(member) for member in value)
    if isinstance(value, Mapping) and type(value) is dict:
        return {name: change(member) for name, member in value.items()}
    return value

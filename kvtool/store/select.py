"""Which store and which run a request means: what the library's functions take in place of an open
run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike

from kvtool.store.catalog import Store, open_store
from kvtool.store.run import Run

StorePath = str | PathLike[str]
Target = StorePath | Store | Run
"""A store by its path or open, or a run of one."""


def select_run(target: Target, serves: Callable[[Run], bool] | None = None) -> Run:
    """Return the run itself, or the only run of a store, of several the only one that serves.

    Raises StoreError where a store holds none or several.
    """
    if isinstance(target, Run):
        return target
    return (target if isinstance(target, Store) else open_store(target)).run(None, serves)


def select_store(
    target: Target, run: str | None = None, create: bool = False
) -> tuple[Store, str | None]:
    """Return the store of a request and the name of the run it means, None where it names none.

    Args:
        target: a store by its path or open, or a run, which then is the one that is meant.
        run: the run's name beside a store.
        create: make the store where the path holds none yet.
    """
    if isinstance(target, Run):
        return open_store(target.store), target.name
    return (target if isinstance(target, Store) else open_store(target, create=create)), run


def open_stores(stores: StorePath | Store | Sequence[StorePath | Store]) -> list[Store]:
    """Return one store or several, by their paths or open, as open stores."""
    several = [stores] if isinstance(stores, Store | str | PathLike) else stores
    return [store if isinstance(store, Store) else open_store(store) for store in several]

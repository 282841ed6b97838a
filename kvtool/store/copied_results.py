"""Results and answers as they are copied with their runs."""

from __future__ import annotations

from contextlib import suppress

from kvtool.errors import StoreError
from kvtool.store import keeping, layout, mirrors
from kvtool.store.catalog import Store
from kvtool.store.durable import read_file


def copy_results(source: Store, target: Store, runs: set[str] | None) -> int:
    """Copy the results and answers of runs, or all, with the pictures that they show; return how
    many were not there.
    """
    count = 0
    for path in layout.entries(source.results_dir):
        with suppress(StoreError):  # a damaged one is computed again
            result = keeping.load_result(path)
            if result is None or (runs is not None and keeping.about(result)[0] not in runs):
                continue
            # A result that the target has stays: it may be a newer one of its own.
            if keeping.result_path(target.path, path.stem).exists():
                continue
            _copy_pictures(source, target, keeping.about(result)[2])
            target.save_result(path.stem, result)
            count += 1
    return count


def _copy_pictures(source: Store, target: Store, key: str) -> None:
    if not key or keeping.pictures_path(target.path, key).is_dir():
        return
    folder = keeping.pictures_path(source.path, key)
    mirrors.complete(folder)
    names = keeping.picture_files(folder) - {keeping.MANIFEST} if folder.is_dir() else set()
    # A damaged folder is not passed on: its pictures are drawn again when asked for.
    if names and not any(keeping.picture_problems(folder)):
        target.keep_pictures(key, ((name, read_file(folder / name)) for name in sorted(names)))

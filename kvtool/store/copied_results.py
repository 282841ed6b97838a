"""Results and answers as they are copied with their runs."""

from __future__ import annotations

from kvtool.errors import StoreError
from kvtool.store import keeping, layout, ledger, mirrors
from kvtool.store.catalog import Store
from kvtool.store.durable import read_file
from kvtool.store.files import os_errors

_FORGET = "`kvtool store repair` forgets it, then it is computed again"


def copy_results(source: Store, target: Store, runs: set[str] | None) -> tuple[int, list[str]]:
    """Copy the results and answers of runs, or all, with the pictures that they show.

    Return how many were not there, and a line for each result and picture that is left out: those
    that cannot be read or are damaged, whose run nobody can tell, and of all runs those that are
    gone. Raises StoreError where the target cannot be written.
    """
    count, failed = 0, []
    for path in layout.entries(source.results_dir):
        # A result that the target has stays: it may be a newer one of its own.
        if path.suffix != ".json" or (target.results_dir / path.name).exists():
            continue
        # Reading alone may fail and go on: an error of the target would lose all that follow.
        try:
            result = keeping.load_result(path)
        except StoreError as error:
            failed.append(str(error).replace(str(path), path.stem))
            continue
        if result is None or (runs is not None and keeping.about(result)[0] not in runs):
            continue
        failed += _copy_pictures(source, target, keeping.about(result)[2])
        target.save_result(path.stem, result)
        count += 1
    if runs is None:
        failed += _gone(source, target)
    # Several results may show the same pictures.
    return count, list(dict.fromkeys(failed))


def _copy_pictures(source: Store, target: Store, key: str) -> list[str]:
    """Copy the pictures of a key, where there are any that the target lacks.

    Return a line where they are damaged: they are not passed on, but drawn again when asked for.
    """
    if not key or keeping.pictures_path(target.path, key).is_dir():
        return []
    folder = keeping.pictures_path(source.path, key)
    try:
        with os_errors(f"pictures {key}: cannot be read"):
            mirrors.complete(folder)
            if not folder.is_dir():
                return []
            problem = next(keeping.picture_problems(folder), None)
            names = keeping.picture_files(folder) - {keeping.MANIFEST}
    except StoreError as error:
        return [str(error)]
    if problem is not None:
        return [f"pictures {key}: {problem}"]
    target.keep_pictures(key, ((name, read_file(folder / name)) for name in sorted(names)))
    return []


def _gone(source: Store, target: Store) -> list[str]:
    """Return a line for each result and folder of pictures that the ledger lists, and that neither
    the store nor its copy has.
    """
    groups = {layout.RESULTS: "result", layout.PICTURES: "pictures"}
    return [
        f"{groups[path.parent.name]} {path.stem}: expected what was committed, found it in the "
        f"ledger alone: {_FORGET}"
        for path in ledger.gone(source.path)
        if path.parent.name in groups
        and path.parent.parent == source.path
        and not (target.path / path.relative_to(source.path)).exists()
    ]

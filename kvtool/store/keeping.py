"""What a store keeps beside its runs: results by key, and pictures, each with its checksum.

results/<key>.json     sealed JSON: the key, whether it is a result or answers, and the result
pictures/<key>/        the pictures, and manifest.json: the key, size and crc32c of each file
"""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kvtool import schema
from kvtool.errors import CorruptError, KvtoolError, StoreError
from kvtool.store import layout, ledger, mirrors
from kvtool.store.durable import FileRecord, make_folder, read_file, read_record, write_recorded
from kvtool.store.files import (
    close_plain_folders,
    commit_folder,
    os_errors,
    remove_committed,
    replace_file,
    scratch_folder,
)
from kvtool.store.sealed import SEAL, UNSEALED, sealed, unsealed

T = TypeVar("T")
MANIFEST = "manifest.json"
ANSWERS = ("answer", "answers")
"""Kinds of kept results that are a model's answers, and no command's outcome."""
_AGAIN = "`kvtool store repair` drops it, then it is computed again"
_warned: set[str] = set()


@dataclass(frozen=True)
class _Kept:
    """The file of a result."""

    key: str
    kind: str
    result: dict[str, Any]


@dataclass(frozen=True)
class _Manifest:
    """The manifest of pictures: size and crc32c of each file."""

    key: str
    files: dict[str, tuple[int, int]]


def warn_once(message: str, always: bool = False) -> None:
    """A warning that a loop over all runs or results gives once a process, unless `always`."""
    if always or message not in _warned:
        _warned.add(message)
        logging.getLogger("kvtool").warning("%s", message)


def result_path(store: Path, key: str) -> Path:
    """Return the file of a result. Raises UsageError for a key that is no file's name."""
    return layout.results_path(store) / f"{layout.check_name(key, 'result key')}.json"


def save_result(store: Path, key: str, result: dict[str, Any]) -> Path:
    """Keep a JSON result under a key; the last one saved stays. Raises StoreError."""
    path = result_path(store, key)
    # The kind comes early in the file, where `store info` tells answers from results.
    kind = "answers" if result.get("kind") in ANSWERS else "result"
    data = sealed({SEAL: UNSEALED, "key": key, "kind": kind, "result": result})
    with os_errors(f"result {key}: cannot be written"), scratch_folder(store) as tmp:
        if (mirror := mirrors.mirror_of(store)) is not None:
            mirror.save(path, data)
        else:
            replace_file(path, data, tmp)
    ledger.mark(store, path)
    return path


def drop_result(store: Path, key: str) -> None:
    """Remove what is kept under a key, where there is anything and the store can be written; on an
    object store it stays.
    """
    if mirrors.mirror_of(store) is not None:
        return
    path = result_path(store, key)
    with suppress(OSError):
        ledger.unmark(store, path)
        path.unlink(missing_ok=True)


def load_result(path: Path) -> dict[str, Any] | None:
    """Return the result in a file, None where there is none.

    Raises CorruptError where it is not what was kept there.
    """
    try:
        return _read_result(path)
    except CorruptError as error:
        raise CorruptError(f"{error}: {_AGAIN}") from None


def find_result(path: Path, parse: Callable[[dict[str, Any]], T]) -> T | None:
    """Return the result in a file, parsed; None where there is none.

    A damaged one, or one that cannot be read, is said in a warning and taken for none, so that it
    is computed again. Nothing is written: what is kept next under the key takes its place.
    """
    try:
        record = _read_result(path)
        return None if record is None else parse(record)
    except KvtoolError as error:
        label = "" if str(path) in str(error) else f"result {path}: "
        warn_once(f"{label}{error}; it is computed again")
        return None


def about(result: dict[str, Any]) -> tuple[str, str, str]:
    """Return the name and hash of a result's run and the key of its pictures, or empty texts."""
    config = result.get("config")
    record = config if isinstance(config, dict) else result
    name, settings, pictures = (record.get(member) for member in ("run", "run_hash", "pictures"))
    texts = (value if isinstance(value, str) else "" for value in (name, settings, pictures))
    return tuple(texts)  # type: ignore[return-value]


def _read_result(path: Path) -> dict[str, Any] | None:
    label = f"result {path}"
    with os_errors(f"{label}: cannot be read"):
        try:
            data = read_file(path)
        except FileNotFoundError:
            return None
    # A file that was renamed has another key than its name: it is no result of that name.
    record = schema.read(_Kept, unsealed(data, label), label)
    if record.key != path.stem:
        raise CorruptError(f"{label}: expected the result {path.stem}, found {record.key}")
    return record.result


def results(store: Path, mention: str = "") -> Iterator[dict[str, Any]]:
    """Yield all results, the last saved first; damaged files are left out, and a warning names
    each.

    mention: only those in whose file this text stands, such as a run's hash; the others, of which
        there may be thousands, are neither checked nor parsed.
    """
    paths = []
    for path in layout.entries(layout.results_path(store)):
        with suppress(FileNotFoundError):  # replaced or removed in this moment
            if path.suffix == ".json":
                paths.append((path.stat().st_mtime_ns, path))
    # By the time of the last save, the newest first.
    for _, path in sorted(paths, reverse=True):
        try:
            # The text is looked for in the bytes: parsing thousands of results would take long.
            if mention and not _mentions(path, mention):
                continue
            result = load_result(path)
        except StoreError as error:
            warn_once(f"{error}; it is left out")
            continue
        if result is not None:
            yield result


def _mentions(path: Path, text: str) -> bool:
    """Return whether a text of plain letters and digits stands in a result's file."""
    with os_errors(f"result {path}: cannot be read"), suppress(FileNotFoundError):
        return text.encode() in read_file(path)
    return False


def pictures_path(store: Path, key: str) -> Path:
    """Return the folder of a key's pictures.

    Raises UsageError for a key that is no folder's name.
    """
    return layout.pictures_path(store) / layout.check_name(key, "key of pictures")


def keep_pictures(store: Path, key: str, files: Iterable[tuple[str, bytes]]) -> Path:
    """Keep files in a folder of their own; one that is there stays, unless it is damaged.

    Raises StoreError.
    """
    folder = pictures_path(store, key)
    with os_errors(f"pictures {key}: cannot be written"), scratch_folder(store) as scratch:
        # The folder of pictures is made with the first of them.
        make_folder(folder.parent)
        close_plain_folders(store, scratch)
        tmp = scratch / key
        tmp.mkdir()
        records = {name: write_recorded(tmp / name, data) for name, data in files}
        manifest = sealed({SEAL: UNSEALED, "key": key, "files": records})
        records[MANIFEST] = write_recorded(tmp / MANIFEST, manifest)
        # A damaged folder makes room for the whole one.
        if folder.exists() and any(picture_problems(folder)):
            remove_committed(store, folder)
        commit_folder(tmp, folder, records)
    return folder


def pictures(store: Path, key: str, draw: Callable[[], Iterable[tuple[str, bytes]]]) -> Path:
    """Return the folder of pictures, drawn where they are not there or damaged.

    Where the store cannot be written, a colleague's or a full one, they lie in a temporary folder
    until the process ends, and a warning says so.
    """
    folder = pictures_path(store, key)
    try:
        mirrors.complete(folder)
        if folder.is_dir() and not any(picture_problems(folder)):
            return folder
        return keep_pictures(store, key, draw())
    except (StoreError, OSError) as error:
        logging.getLogger("kvtool").warning("%s; they are drawn in a temporary folder", error)
    # Drawn aside and not kept: the pictures are wanted now, though the store takes none.
    aside = Path(tempfile.mkdtemp(prefix="kvtool-pictures-"))
    atexit.register(shutil.rmtree, aside, ignore_errors=True)
    for name, data in draw():
        (aside / name).write_bytes(data)
    return aside


def picture_problems(folder: Path) -> Iterator[str]:
    """Yield what is wrong with a folder of pictures, by file."""
    label = f"file {MANIFEST}"
    try:
        manifest = schema.read(_Manifest, unsealed(read_file(folder / MANIFEST), label), label)
    except FileNotFoundError:
        yield f"{label} is missing: {_AGAIN}"
        return
    except CorruptError as error:
        yield f"{error}: {_AGAIN}"
        return
    if manifest.key != folder.name:
        yield f"{label}: expected pictures {folder.name}, found those of {manifest.key}: {_AGAIN}"
    for name, (nbytes, crc) in manifest.files.items():
        try:
            current = read_record(folder / name)
        except FileNotFoundError:
            yield f"file {name} is missing: {_AGAIN}"
            continue
        if current != FileRecord(nbytes, crc):
            yield (
                f"file {name}: expected {nbytes} bytes of crc32c {crc:08x}, "
                f"found {current[0]} of {current[1]:08x}: {_AGAIN}"
            )


def picture_files(folder: Path) -> set[str]:
    """Return the names of the files that belong in a folder of pictures, as far as its manifest
    says.
    """
    with suppress(CorruptError, OSError):
        return {
            MANIFEST,
            *schema.read(_Manifest, unsealed(read_file(folder / MANIFEST), ""), "").files,
        }
    return {path.name for path in layout.entries(folder)}

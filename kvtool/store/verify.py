"""Read every byte of a store against its checksums and list all that is wrong or gone.

A store is checked unit by unit: a part, a text, a result, a folder of pictures, an index, and so on. A unit is what
`store repair` drops as a whole, and what `store verify --part i/n` deals out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from kvtool.errors import CorruptError, StoreError
from kvtool.store import indexes, keeping, layout, ledger
from kvtool.store.arrays import StoredArray
from kvtool.store.catalog import Store
from kvtool.store.durable import FileRecord, read_file, read_record
from kvtool.store.encoding import Bits
from kvtool.store.files import crc32c, read_group, scratch_owner, unsealed
from kvtool.store.manifest import Part, token_offsets
from kvtool.store.nonfinite import WHAT, describe
from kvtool.store.roster import segment_name
from kvtool.store.run import Run
from kvtool.store.shards import OpenShard, Request, Rows

Progress = Callable[[int], object]
Mend = Literal["", "drop", "group", "restore", "copy", "forget"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; run, part and array are empty where it lies above them.

    mend: what `store repair` does about `target`: drop it; write an empty group's zarr.json; restore zarr.json from
    its copy; make that copy again; forget that it was committed; or nothing.
    """

    run: str
    part: str
    array: str
    what: str
    mend: Mend = field(default="", compare=False)
    target: Path | None = field(default=None, compare=False)

    def row(self) -> dict[str, str]:
        """Columns of a table."""
        return {"run": self.run, "part": self.part, "array": self.array, "what": self.what}


@dataclass(frozen=True)
class Unit:
    """Something that is checked as a whole. counts: whether progress counts it."""

    label: str
    check: Callable[[], Iterable[Problem]]
    counts: bool = False

    def problems(self) -> Iterator[Problem]:
        """What its check finds. A disk that cannot be read is one more problem, and no end of the others."""
        try:
            yield from self.check()
        except (StoreError, OSError) as error:
            yield _unreadable(self.label, error)


def verify(store: Store, progress: Progress | None = None, share: tuple[int, int] = (1, 1)) -> list[Problem]:
    """All problems of a store, none raised. progress(1) is called after each part.

    share: the i-th of n shares, from 1 on. They do not overlap, together they are everything, and what is in a share
    stays in it, whatever else comes or goes.
    """
    problems: list[Problem] = []
    for unit in units(store):
        if in_share(unit.label, share):
            problems += unit.problems()
            if progress and unit.counts:
                progress(1)
    return problems


def in_share(label: str, share: tuple[int, int]) -> bool:
    number, of = share
    return crc32c(label.encode("utf-8", "surrogateescape")) % of == number - 1


def units(store: Store) -> Iterator[Unit]:
    """All there is to check in a store; a folder that cannot be listed is a unit that says so."""
    yield Unit("store", partial(_check_root, store))
    yield Unit("tmp", partial(_check_tmp, store))
    yield Unit(layout.LEDGER, partial(_check_ledger, store))
    for check, folder in ((_check_result, store.results_dir), (_check_pictures, layout.pictures_path(store.path))):
        yield from _units_in(folder, folder.name, partial(_unit_of_kept, check))
    yield from _units_in(layout.runs_path(store.path), "runs", partial(_units_of_run, store))


def _units_in(folder: Path, label: str, units_of: Callable[[Path], Iterable[Unit]]) -> Iterator[Unit]:
    """The units of each entry of a folder."""
    try:
        found = layout.entries(folder)
    except OSError as error:
        unreadable = _unreadable(label, error)
        yield Unit(label, lambda: [unreadable])
        return
    for path in found:
        yield from units_of(path)


def _unit_of_kept(check: Callable[[Path], Iterable[Problem]], path: Path) -> Iterator[Unit]:
    yield Unit(f"{path.parent.name}/{path.name}", partial(check, path))


def _unreadable(label: str, error: StoreError | OSError) -> Problem:
    """A problem of a unit, told from its label, e.g. runs/<run>/parts/<part>."""
    what = f"{label}: cannot be read: {getattr(error, 'strerror', None) or error}"
    root, _, member = label.partition("/")
    run, _, part = member.partition("/") if root == "runs" else ("", "", "")
    return Problem(run, part.removeprefix("parts/"), "", what)


def _units_of_run(store: Store, folder: Path) -> Iterator[Unit]:
    label = f"runs/{folder.name}"
    try:
        run = store.run(folder.name)
    except StoreError as error:
        what = f"cannot be opened: {error}"
        mend: Mend = "restore" if isinstance(error, CorruptError) else ""
        unreadable = Problem(folder.name, "", "", what, mend, folder)
        yield Unit(label, lambda: [unreadable])
        return
    yield Unit(label, partial(_check_run, run))
    for group in layout.RUN_GROUPS:
        yield from _units_in(run.folder / group, f"{label}/{group}", partial(_unit_of_member, run, group))


def _unit_of_member(run: Run, group: str, path: Path) -> Iterator[Unit]:
    counts = group == "parts" and layout.part_range(path.name) is not None
    yield Unit(f"runs/{run.name}/{group}/{path.name}", partial(_check_member, run, group, path), counts)


def _check_root(store: Store) -> Iterator[Problem]:
    ours = {layout.ZARR_JSON, *layout.ROOT_FOLDERS, layout.PICTURES, layout.LEDGER}
    yield from _foreign(store.path, ours, "", "", "")
    yield from _check_group(layout.runs_path(store.path), "", "runs")


def _check_tmp(store: Store) -> Iterator[Problem]:
    """What dead processes left there is no problem: it is swept in time."""
    for path in layout.entries(layout.tmp_path(store.path)):
        if scratch_owner(path) is None:
            yield Problem("", "", "", f"tmp/{path.name}: not a file of kvtool")


def _check_ledger(store: Store) -> Iterator[Problem]:
    for target in ledger.gone(store.path):
        relative = target.relative_to(store.path)
        of_run = relative.parts[0] == "runs"
        run = relative.parts[1] if of_run else ""
        part = "/".join(relative.parts[2:]).removeprefix("parts/") if of_run else ""
        what = f"{'' if part else f'{relative}: '}it was committed and is gone"
        yield Problem(run, part, "", what, "restore" if target.parent.name == layout.ROSTER else "forget", target)
    for path in ledger.spoiled(store.path):
        yield Problem("", "", "", f"{path.relative_to(store.path)}: expected an empty file", "copy", path)
    copies = [layout.ledger_path(store.path) / layout.ROOT_COPY]
    for name in store.runs():
        copies += [ledger.run_copy(store.path, name), *ledger.segment_copies(store.path, name)]
    for path in copies:
        try:
            unsealed(read_file(path), f"file {path.relative_to(store.path)}")
        except FileNotFoundError:
            continue
        except (CorruptError, OSError) as error:
            yield Problem("", "", "", str(error), "copy" if isinstance(error, CorruptError) else "", path)


def _check_result(path: Path) -> Iterator[Problem]:
    if path.suffix != ".json":
        yield Problem("", "", "", f"results/{path.name}: not a file of kvtool")
        return
    try:
        keeping.load_result(path)
    except StoreError as error:
        yield Problem("", "", "", f"results/{path.name}: {error}", _drop_if_corrupt(error), path)


def _check_pictures(path: Path) -> Iterator[Problem]:
    label = f"{layout.PICTURES}/{path.name}"
    if not path.is_dir():
        yield Problem("", "", "", f"{label}: not a file of kvtool")
        return
    try:
        for what in keeping.picture_problems(path):
            yield Problem("", "", "", f"{label}: {what}", "drop", path)
    except OSError as error:
        yield Problem("", "", "", f"{label}: cannot be read: {error.strerror}")
    for foreign in _foreign(path, keeping.picture_files(path), "", "", ""):
        yield Problem("", "", "", f"{label}/{foreign.what}")


def _check_run(run: Run) -> Iterator[Problem]:
    ours = {layout.ZARR_JSON, *layout.RUN_FOLDERS, layout.INDEXES}
    yield from _foreign(run.folder, ours, run.name, "", "")
    for group in (*layout.RUN_FOLDERS, layout.INDEXES):
        if group in layout.RUN_FOLDERS or (run.folder / group).is_dir():
            yield from _check_group(run.folder / group, run.name, f"run {run.name}, group {group}")
    yield from _check_roster(run)
    yield from _check_twice(run)


def _check_roster(run: Run) -> Iterator[Problem]:
    """Segments that follow each other and can be read, and parts whose images are those that the roster lists."""
    try:
        roster = run.roster
    except StoreError as error:
        segments = layout.entries(run.folder / layout.ROSTER)
        if not any(any(_check_segment(run, layout.ROSTER, segment)) for segment in segments):  # else told there
            yield Problem(run.name, layout.ROSTER, "", str(error))
        return
    names = {path.name for path in layout.entries(run.folder / layout.ROSTER)}
    for name in sorted(names - {segment_name(number) for number in range(roster.n_segments)}):
        what = f"not among the {roster.n_segments} segments that follow each other: one before it is gone"
        yield Problem(run.name, f"{layout.ROSTER}/{name}", "", what)
    if not roster.n_segments:
        return
    for part in _parts_with_samples(run):
        for index, name in zip(part.indices, (picture.id for picture in part.pictures), strict=True):
            listed = roster.ids[index] if index < len(roster.ids) else None
            if name != listed:
                what = f"image {index} is {name!r}, and in the run's roster {listed!r}"
                # An index that no segment lists may be of one that is lost: then the part is all that is left of it.
                yield Problem(run.name, part.name, "", what, "" if listed is None else "drop", part.folder)


def _check_group(folder: Path, run: str, where: str) -> Iterator[Problem]:
    try:
        read_group(folder, where)
    except FileNotFoundError:
        yield Problem(run, "", "", f"{where}: {layout.ZARR_JSON} is missing", "group", folder)
    except CorruptError as error:
        yield Problem(run, "", "", str(error), "group", folder)
    except OSError as error:
        yield Problem(run, "", "", f"{where}: cannot be read: {error.strerror}")


def _parts_with_samples(run: Run) -> list[Part]:
    """Parts whose images can be read; what is wrong with others is told where they are checked themselves."""
    parts = []
    for part in run.readable("parts"):
        with suppress(StoreError):
            if part.samples and part.pictures:
                parts.append(part)
    return parts


def _check_twice(run: Run) -> Iterator[Problem]:
    """Images that are in two parts: the one that was committed under its name stays."""
    owners: dict[int | str, Part] = {}
    for part in sorted(_parts_with_samples(run), key=lambda part: not _in_place(run, part)):
        for sample in part.samples:
            for key, what in ((sample.index, "image with index"), (sample.id, "image with id")):
                other = owners.setdefault(key, part)
                if other is not part:
                    first, second = sorted((other.name, part.name))
                    what = f"{what} {key!r} is in part {first} too: remove one part"
                    yield Problem(run.name, second, "", what, "" if _in_place(run, part) else "drop", part.folder)


def _in_place(run: Run, part: Part) -> bool:
    """Whether a part lies where it was committed, and was neither copied nor renamed."""
    return part.attributes.get("committed_as") == str(part.folder.relative_to(run.store))


def _check_member(run: Run, group: str, folder: Path) -> Iterator[Problem]:
    if group == layout.INDEXES:
        for what, damaged in indexes.problems(run, folder):
            yield Problem(run.name, f"{group}/{folder.name}", "", what, "drop" if damaged else "", folder)
    elif group not in ("parts", "text"):
        yield from _check_segment(run, group, folder)
    elif group == "parts" and layout.part_range(folder.name) is None:
        yield Problem(run.name, folder.name, "", "not a part: expected a name like 0000000-0000032")
    else:
        yield from _check_part(run, group, folder)


def _check_segment(run: Run, group: str, folder: Path) -> Iterator[Problem]:
    """A folder with a sealed zarr.json and nothing else."""
    label = f"{group}/{folder.name}"
    try:
        read_group(folder, f"run {run.name}, {label}")
    except FileNotFoundError:
        yield Problem(run.name, label, "", f"{layout.ZARR_JSON} is missing", "restore", folder)
    except (CorruptError, OSError) as error:
        yield Problem(run.name, label, "", str(error), "restore" if isinstance(error, CorruptError) else "", folder)
    yield from _foreign(folder, {layout.ZARR_JSON}, run.name, label, "")


def _check_part(run: Run, group: str, folder: Path) -> Iterator[Problem]:
    label = folder.name if group == "parts" else f"{group}/{folder.name}"
    try:
        part = run.open_part(group, folder.name)
        arrays = part.arrays
        problems = list(_check_samples(run, part)) if group == "parts" else []
    except StoreError as error:
        yield Problem(run.name, label, "", f"cannot be opened: {error}", _drop_if_corrupt(error), folder)
        return
    if not _in_place(run, part):
        as_ = part.attributes.get("committed_as")
        problems.append(Problem(run.name, label, "", f"was committed as {as_}: it was moved here", "drop", folder))
    yield from problems
    yield from _foreign(folder, {layout.ZARR_JSON, *arrays}, run.name, label, "")
    for name, array in arrays.items():
        expected = {layout.ZARR_JSON, *(array.spec.shard_name(i) for i in range(array.spec.n_shards))}
        yield from _foreign(array.folder, expected, run.name, label, name)
        for what, mend in dict(_check_array(array)).items():
            yield Problem(run.name, label, name, what, mend, folder)
        if counts := part.nonfinite(name):
            layers = run.config.stored_layers(name)
            places = describe([(name, layers[layer], head) for layer, head, _ in counts], run.config)
            yield Problem(run.name, label, name, f"{sum(count for *_, count in counts)} {WHAT}: {places}")


def _check_samples(run: Run, part: Part) -> Iterator[Problem]:
    for name in run.config.array_names():
        offsets = token_offsets(part.samples, name)
        if part.offsets(name) != offsets:
            what = "its token offsets are not those of its images"
            yield Problem(run.name, part.name, name, what, "drop", part.folder)
        elif name not in part.arrays and offsets[-1]:
            what = f"expected an array of {offsets[-1]} tokens, found none"
            yield Problem(run.name, part.name, name, what, "drop", part.folder)


def _check_array(array: StoredArray) -> Iterator[tuple[str, Mend]]:
    """What is wrong with an array's files: each is read once; of a damaged one, every damaged chunk."""
    path = array.folder / layout.ZARR_JSON
    try:
        found = f"{crc32c(read_file(path)):08x}"
        if found != array.metadata_crc32c:
            yield f"file {path.name}: expected crc32c {array.metadata_crc32c}, found {found}: damaged", "drop"
    except FileNotFoundError:
        yield f"file {path.name} is missing", "drop"
    except OSError as error:
        yield f"file {path.name}: cannot be read: {error.strerror}", ""
    for shard, expected in enumerate(map(FileRecord, array.shard_nbytes, array.shard_crc32c)):
        name = array.spec.shard_name(shard)
        try:
            record = read_record(array.folder / name)
        except FileNotFoundError:
            yield f"file {name} is missing: {layout.REPAIR}", "drop"
        except OSError as error:
            yield f"file {name}: cannot be read: {error.strerror}", ""
        else:
            if record != expected:
                yield from _damage(array, shard, expected, record)


def _damage(array: StoredArray, shard: int, expected: FileRecord, found: FileRecord) -> Iterator[tuple[str, Mend]]:
    """Every damaged chunk of a shard; where none is, its checksum as a whole."""
    spec = array.spec
    layers = range(shard * spec.shard_layers, (shard + 1) * spec.shard_layers)
    whats = list(dict.fromkeys(chain.from_iterable(_damaged_chunks(array, layer) for layer in layers)))
    name = spec.shard_name(shard)
    as_whole = f"file {name}: expected crc32c {expected.crc32c:08x}, found {found.crc32c:08x}: {layout.REPAIR}"
    for what in whats or [as_whole]:
        yield what, "drop"


def _damaged_chunks(array: StoredArray, layer: int) -> Iterator[str]:
    spec = array.spec
    out = np.empty((1, spec.shape[2], spec.shape[3]), spec.storage)
    for head in range(spec.shape[1]):
        for start in range(0, spec.shape[2], spec.chunk_tokens):
            rows = Rows(start, min(start + spec.chunk_tokens, spec.shape[2]), 0)
            try:
                _read(Request(array, layer, range(head, head + 1), [rows]), out)
            except StoreError as error:
                yield str(error).removeprefix(f"{array.where}: ")


def _read(request: Request, out: Bits) -> None:
    shard = OpenShard(request)
    try:
        shard.read_into(out)
    finally:
        shard.close()


def _drop_if_corrupt(error: StoreError) -> Mend:
    """Bytes that are wrong are dropped; bytes that could not be read may be right."""
    return "drop" if isinstance(error, CorruptError) else ""


def _foreign(folder: Path, expected: set[str], run: str, part: str, array: str) -> Iterator[Problem]:
    for path in layout.entries(folder):
        if path.name not in expected:
            yield Problem(run, part, array, f"{path.name}: not a file of kvtool")

"""Copy runs from one store to another, in folders or on object stores, part by part.

What is copied is compared with the checksums that were written with it, committed as a writer
commits it, and left alone where it is there already: so the same copy, ended at any moment, goes
on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kvtool.errors import CorruptError, RunConflictError, UsageError
from kvtool.layers import LayerChoice
from kvtool.store import layout, ledger, mirrors
from kvtool.store.catalog import Store
from kvtool.store.copied_parts import check_copy, chosen_config, copy_arrays, copy_files
from kvtool.store.copied_results import copy_results
from kvtool.store.copied_texts import copy_texts
from kvtool.store.durable import read_file, write_file
from kvtool.store.estimate import check_space
from kvtool.store.files import commit_folder, member_names, os_errors, scratch_folder
from kvtool.store.manifest import RunConfig
from kvtool.store.parts import Part
from kvtool.store.roster import segment_name
from kvtool.store.run import Run
from kvtool.store.run_folder import write_run
from kvtool.store.targets import Target, made_target, opened_target
from kvtool.types import Kind

Progress = Callable[[int], object]
REMEDY = "`kvtool store repair` forgets it, then extract again"
"""What to do about what was committed and is gone."""
_RESTORE = "`kvtool store repair` restores it, then run the same command again"
"""What to do about what the ledger has a copy of."""


@dataclass
class CopiedRun:
    """What became of a run.

    parts, images, bytes: committed by this copy; already_there: parts that were. failed: a line
    for each part that is damaged or gone, which is left out.
    """

    run: str
    images: int = 0
    parts: int = 0
    already_there: int = 0
    bytes: int = 0
    failed: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return the columns of a table."""
        return asdict(self) | {"failed": len(self.failed)}


@dataclass
class Copied:
    """What a copy did: run by run, and the results and answers that came with them.

    failed: a line for each result and folder of pictures that is damaged or gone.
    """

    runs: list[CopiedRun]
    results: int = 0
    failed: list[str] = field(default_factory=list)

    def left_out(self) -> list[str]:
        """Return a line for each part, run, result and folder of pictures that is left out."""
        return [*(line for run in self.runs for line in run.failed), *self.failed]


def copy(
    source: Store,
    target: Target,
    *,
    runs: Sequence[str] | None = None,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    progress: Progress | None = None,
    remedy: str = REMEDY,
) -> Copied:
    """Copy runs to another store; what is damaged or gone is left out and named.

    A run comes with its texts and the results of it; its search indexes are built again when they
    are needed. Of chosen kinds or layers it becomes another run, as an extraction of these would
    make it, without results.

    Args:
        source: the open store.
        target: an open store, or the path or address of one, which is made where it is not there
            once nothing can be refused.
        runs: names, or their beginnings; all runs by default.
        kinds, layers: what to copy of them; all by default. Layers are the decoder's, or the
            tower's of an encoder alone.
        progress: called with 1 after each part.
        remedy: what to do about a part or run of the source that is gone.

    Raises UsageError for a run, kind or layer that is not there; RunConflictError where the target
    has another run of the name; StoreError where it cannot be written.
    """
    existing = opened_target(target)
    if existing is not None and source.path == existing.path:
        raise UsageError(f"store {existing.address}: expected another store to copy to")
    # All that can be refused is refused before anything is written.
    choice = chosen_runs(source, runs, kinds, layers)
    if existing is not None:
        for _, config in choice:
            check_conflict(existing, config, existing.address)
    store = made_target(target if existing is None else existing)
    store.sweep_tmp()
    outcome = Copied([])
    for run, config in choice:
        row = _copy_run(run, config, store, progress)
        row.failed += _gone_members(run, store.run(config.name), remedy)
        outcome.runs.append(row)
    if runs is None:
        outcome.runs += _left_out_runs(source, remedy)
    if kinds is None and layers is None:
        names = None if runs is None else {run.name for run, _ in choice}
        outcome.results, outcome.failed = copy_results(source, store, names)
    return outcome


def chosen_runs(
    source: Store,
    runs: Sequence[str] | None,
    kinds: Sequence[Kind] | None,
    layers: LayerChoice | None,
) -> list[tuple[Run, RunConfig]]:
    """Return each run to copy with the settings that its copy has. Raises UsageError."""
    opened = source.readable_runs() if runs is None else [source.run(name) for name in runs]
    if not opened:
        raise UsageError(f"store {source.address}: expected a run to copy, found none")
    return [(run, chosen_config(run.config, kinds, layers)) for run in opened]


def check_conflict(target: Store, config: RunConfig, address: str) -> None:
    """Raise RunConflictError where the store at an address has another run of the name."""
    if config.name in target.runs() and target.run(config.name).config.hash != config.hash:
        raise RunConflictError(
            f"store {address}: expected no run {config.name}, or one of the same settings, "
            "found one of others: remove it, or copy to another store"
        )


def _copy_run(run: Run, config: RunConfig, target: Store, progress: Progress | None) -> CopiedRun:
    """Copy a run, or what `config` says of it."""
    copied = CopiedRun(config.name)
    if config.name not in target.runs():
        with os_errors(f"run {config.name}: cannot be made in {target.address}"):
            # Made without its roster, whose segments follow one by one below.
            write_run(target.path, config)
    target_run = target.run(config.name)
    _copy_roster(run, target_run)
    is_whole = config.hash == run.config.hash
    parts = list(open_parts(run, "parts", copied.failed))
    texts = list(open_parts(run, "text", copied.failed)) if is_whole else []
    # What the target has needs no space: a copy that goes on must not be refused for it.
    stored = set(member_names(target_run.folder / "parts"))
    todo_bytes = sum(part.nbytes for part in parts if part.folder.name not in stored)
    # Fewer layers take so much less; fewer kinds are not reckoned, which is on the safe side.
    share = len(config.layers) / len(run.config.layers) if run.config.layers else 1.0
    check_space(target.path, round(todo_bytes * share))
    for part in texts:
        _copy_part(part, run, target_run, "text", copied)
    for part in parts:
        _copy_part(part, run, target_run, "parts", copied)
        if progress:
            progress(1)
    if not is_whole:
        copy_texts(run, target_run)
    return copied


def open_parts(run: Run, group: str, failed: list[str]) -> Iterator[Part]:
    """Yield the parts of a run that open; a line for each of the others is added to `failed`."""
    for name in member_names(run.folder / group):
        try:
            yield run.open_part(group, name)
        except CorruptError as error:
            failed.append(str(error))


def _gone_members(run: Run, target: Run, remedy: str) -> Iterator[str]:
    """Yield a line for each part, text and segment of the roster that the ledger lists, and that
    neither the run nor its copy has.
    """
    for path in ledger.gone_of_run(run.store, run.folder):
        group = path.parent.name
        # Indexes are built again when they are needed.
        if group == layout.INDEXES or (target.folder / group / path.name).is_dir():
            continue
        name = path.name if group == "parts" else f"{group}/{path.name}"
        yield (
            f"run {run.name}, part {name}: expected its folder, found it in the ledger alone: "
            f"{_RESTORE if group == layout.ROSTER else remedy}"
        )


def _left_out_runs(source: Store, remedy: str) -> Iterator[CopiedRun]:
    """Yield a row for each run that does not open or is gone as a whole."""
    opened = {run.name for run in source.readable_runs()}
    for name in source.runs():
        if name not in opened:
            line = f"run {name}: expected a run that opens, found it damaged: {_RESTORE}"
            yield CopiedRun(name, failed=[line])
    for path in ledger.gone(source.path):
        if path.parent == layout.runs_path(source.path):
            line = f"run {path.name}: expected its folder, found it in the ledger alone: {remedy}"
            yield CopiedRun(path.name, failed=[line])


def _copy_part(part: Part, run: Run, target: Run, group: str, copied: CopiedRun) -> None:
    """Copy a part that the target lacks; one that is damaged is noted."""
    name = part.folder.name
    is_whole = target.config.hash == run.config.hash
    images = set(part.indices) if group == "parts" else set()
    covered: set[int] = set()
    try:
        if (target.folder / group / name).is_dir():
            check_copy(target, group, name)
            copied.already_there += 1
            return
        # Another writer may have cut the same images into other parts: none is stored twice.
        if images:
            covered = images & target.covered_indices(range(min(images), max(images) + 1))
            if images == covered:
                copied.already_there += 1
                return
        if is_whole and not covered:
            committed = part.nbytes if copy_files(part, group, target) else 0
        else:  # what another part of the target holds is left out of this one
            committed = copy_arrays(part, run.config, target)
    except CorruptError as error:
        copied.failed.append(str(error))
        return
    target.refresh()
    if not committed:
        copied.already_there += 1
        return
    copied.bytes += committed
    if group == "parts":
        copied.parts += 1
        copied.images += len(images) - len(covered)


def _copy_roster(run: Run, target: Run) -> None:
    """Copy the segments of a run's roster that the target lacks.

    Raises RunConflictError where it has others: then an index would mean two images.
    """
    for number in range(run.roster.n_segments):
        name = segment_name(number)
        document = read_file(run.folder / layout.ROSTER / name / layout.ZARR_JSON)
        folder = target.folder / layout.ROSTER / name
        # A segment is never changed once it is there: it is made where it lacks, then compared.
        if not folder.is_dir():
            with (
                os_errors(f"run {run.name}: its roster cannot be copied"),
                scratch_folder(target.store) as scratch,
            ):
                (scratch / name).mkdir()
                write_file(scratch / name / layout.ZARR_JSON, document)
                commit_folder(scratch / name, folder)
        # Segments of equal number and other images would give one index to two pictures.
        if read_file(folder / layout.ZARR_JSON) != document:
            raise other_images(run.name, mirrors.address_of(target.store))


def other_images(run: str, address: str) -> RunConflictError:
    """Return the error of a run that has other images in the store at an address."""
    return RunConflictError(
        f"run {run}: expected images in the order of the run to be copied, found others in "
        f"{address}: remove it there, or copy to another store"
    )

"""Extraction on this machine: one process a device, all running the same loop over the same parts.

The processes share nothing but the store: a part belongs to whoever holds its claim, and a
committed part is done. So more devices, more machines (SLURM arrays) or the same command started
twice are all the same thing.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kvtool.engine.events import Event, Tell
from kvtool.engine.match import Extraction, find_run, open_extraction, replace_changed, stale_parts
from kvtool.engine.nonfinite import warn_of_nonfinite
from kvtool.engine.outcome import Report, SizeEstimate
from kvtool.engine.plan import Job, Plan, make_plan
from kvtool.engine.windows import windows
from kvtool.engine.worker import TEXT_CLAIM, lacks_texts, resolve_devices, work
from kvtool.engine.workers import Hands, check_engine, run_workers
from kvtool.errors import KvtoolError, StoreError
from kvtool.models.hub import resolve
from kvtool.outputs import check_folder
from kvtool.store import existing_store, open_store
from kvtool.store.layout import part_range
from kvtool.store.nonfinite import StoredBlock
from kvtool.store.objects.addresses import remote_address
from kvtool.store.shares import by_crew
from kvtool.store.texts import text_arrays

if TYPE_CHECKING:
    from kvtool.datasets.base import Dataset
    from kvtool.models.base import Model
    from kvtool.store import Run, Store

POLL_SECONDS = 0.5


def estimate(job: Job) -> SizeEstimate:
    """Bytes and free space of a job; writes nothing, not even the store."""
    from kvtool.store.estimate import expected_bytes, free_bytes_of_store

    extraction = open_extraction(job)
    store = existing_store(job.store)
    run = find_run(extraction, store) if store else None
    model = _shape(job)
    plan = make_plan(extraction, model, run, store)
    todo = missing(plan, run)
    if run is not None:
        # Parts with changed pictures will be dropped whole, and so all of their images count anew.
        stale, _ = stale_parts(extraction, run)
        todo |= {index for part in stale for index in part.indices} & set(plan.indices)
    n_todo = len(todo)
    todo_bytes = n_todo * plan.image_bytes
    return SizeEstimate(
        run=plan.config.name,
        n_images=len(plan.refs),
        n_before=len(plan.refs) - n_todo,
        n_todo=n_todo,
        image_bytes=plan.image_bytes,
        todo_bytes=todo_bytes,
        expected_bytes=expected_bytes(todo_bytes, plan.config.codec, job.dtype),
        free_bytes=free_bytes_of_store(job.store),
        n_probed=plan.n_probed,
        source=plan.source,
    )


def _shape(job: Job) -> Model:
    """Return the model of a job without its weights, as it plans with."""
    from kvtool.models import load_model

    return load_model(
        job.model,
        dtype=job.dtype,
        attention=job.attention,
        weights=False,
        size=job.size,
        system=job.system,
    )


def extract(
    job: Job,
    *,
    dataset: Dataset | None = None,
    devices: Sequence[str] = ("auto",),
    engine: str = "local",
    cpus_per_worker: int = 1,
    wait_s: float = 0.0,
    min_free_vram: int | None = None,
    tell: Tell | None = None,
    begin: Callable[[Report], None] | None = None,
) -> Report:
    """Extract what a run still lacks.

    Images that cannot be read are left out and listed in the report.

    dataset: one that is open already, in place of the one that the job names.
    devices: torch device names, a process each; "auto" is cuda:0 where there is one, else cpu; of a
    Ray cluster every GPU, else every `cpus_per_worker` CPUs.
    wait_s: how long to wait for parts that other processes hold once all others are done.
    begin: called once with the report when it is known what is to do, before the weights are
    loaded. Where there is nothing to do, neither torch nor a model is loaded. Raises KvtoolError;
    what was committed by then stays, and the same call goes on from there.
    """
    started = time.monotonic()
    hands = Hands(
        tuple(devices), check_engine(engine, cpus_per_worker), cpus_per_worker, min_free_vram
    )
    extraction = open_extraction(job, dataset)
    store = existing_store(job.store)
    # Made once the model is known to be one: a refusal leaves nothing behind.
    if store is None and remote_address(job.store) is None:
        check_folder(job.store, "store")
    run, is_whole = _stored_run(extraction, store)
    # The weights of a model on the hub may not be here yet: fetch them, then look again.
    if not is_whole and not extraction.snapshot.revision:
        extraction = replace(extraction, snapshot=resolve(job.model))
        run, is_whole = _stored_run(extraction, store)
    # Where nothing had to be dropped and nothing lacks, no model is loaded at all.
    if run is not None and is_whole:
        report = Report(
            run.name, extraction.n_images, n_before=extraction.n_images, nonfinite=run.nonfinite()
        )
        report.left_out = extraction.left_out
        warn_of_nonfinite(run.config, report.nonfinite, set())
        report.seconds = time.monotonic() - started
        return report
    if engine == "local":
        # Not yet how much is free: that is asked when the work begins.
        resolve_devices(devices, None if min_free_vram is None else 0)
    report = _extract(extraction, store, run, hands, started, wait_s, tell, begin)
    report.left_out = extraction.left_out
    return report


def _stored_run(extraction: Extraction, store: Store | None) -> tuple[Run | None, bool]:
    """Return the run that an extraction goes on with, if there is one, without the pictures that
    changed since, and whether it holds all that is asked for.

    Raises what find_run and replace_changed raise.
    """
    run = find_run(extraction, store) if store else None
    if run is None:
        return None, False
    # Wherever a run is found, what changed goes before anything counts as stored.
    n_dropped = replace_changed(extraction, run)
    return run, not n_dropped and is_done(extraction, run)


def is_done(extraction: Extraction, run: Run) -> bool:
    """Whether a run holds all that an extraction asks for; where its data set moved or grew, the
    roster says so.
    """
    # The limit cuts the data set's order, not what happens to be stored.
    requested_ids = set(extraction.ids[: extraction.job.limit])
    if not requested_ids <= {picture.id for picture in run.pictures}:
        return False
    texts = tuple(extraction.dataset.texts()) if text_arrays(run.config) else ()
    if run.texts(extraction.job.text_template).lacks(texts):
        return False
    with contextlib.suppress(StoreError):  # a store that cannot be written still holds all
        run.enroll(extraction.ids, extraction.dataset_path)
    return True


def _extract(
    extraction: Extraction,
    store: Store | None,
    run: Run | None,
    hands: Hands,
    started: float,
    wait_s: float,
    tell: Tell | None,
    begin: Callable[[Report], None] | None,
) -> Report:
    """Do what there is to do, with the model."""
    from kvtool.store.estimate import check_space, expected_bytes

    job = extraction.job
    model = _shape(job)
    plan = make_plan(extraction, model, run, store)
    store = store or open_store(job.store, create=True)
    store.sweep_tmp()
    # Made by the first worker whose model loads, so that a request that fails leaves no empty run
    # behind.
    report = Report(plan.config.name, len(plan.refs), source=plan.source)
    report.n_before = report.n_images - len(missing(plan, run))
    if begin:
        begin(report)

    told: set[StoredBlock] = set()

    def hear(event: Event) -> None:
        report.hear(event)
        if event.what == "growth":
            logging.getLogger("kvtool").debug("batches run %d at once: %s", event.n, event.message)
        warn_of_nonfinite(plan.config, event.blocks, told)
        if tell:
            tell(event)

    while (todo := missing(plan, run) - report.failed.keys()) or lacks_texts(plan, run):
        # Parts are asked for anew in each round: those of others may be done or free by now.
        report.busy.clear()
        check_space(
            store.path, expected_bytes(len(todo) * plan.image_bytes, plan.config.codec, job.dtype)
        )
        n_dead, plan = run_hands(job, plan, hands, hear)
        # Workers commit in processes of their own: the run is opened again to see their parts.
        run = plan.open_run(store)
        plan = plan.within(run)
        report.run = run.name
        # Dead workers are an error only where the round brought nothing: else it goes on.
        _check_deaths(run.name, n_dead, todo, missing(plan, run))
        if not wait_for_others(plan, run, report, started + wait_s):
            break
    _conclude(report, plan, run)
    warn_of_nonfinite(plan.config, report.nonfinite, told)
    report.seconds = time.monotonic() - started
    return report


def _check_deaths(run: str, n_dead: int, todo: set[int], left: set[int]) -> None:
    """Raise KvtoolError where workers died, and of what there was to do all is left."""
    if n_dead and todo and todo <= left:
        raise KvtoolError(
            f"run {run}: expected {n_dead} workers to finish, found them dead, and nothing done "
            f"of {len(todo)} images meanwhile; what is committed stays: give them more memory, "
            "or leave out what ends them"
        )


def _conclude(report: Report, plan: Plan, run: Run | None) -> None:
    """Put into a report what the run holds at the end, and who holds what is left."""
    stored = report.n_images - len(missing(plan, run))
    # What is stored beyond before and own work came from other processes meanwhile.
    report.n_by_others = max(0, stored - report.n_before - report.n_done)
    # Of the claims on a run, those on answers have nothing to do with its extraction.
    claims = run.holders().items() if run else ()
    holders = {name: owner for name, owner in claims if part_range(name) or name == TEXT_CLAIM}
    report.busy = [
        f"part {name} is held by {owner or 'an unknown process'}" for name, owner in holders.items()
    ]
    report.failed = dict(sorted(report.failed.items()))
    report.nonfinite = run.nonfinite() if run else {}


def missing(plan: Plan, run: Run | None) -> set[int]:
    """Dataset indices that the run, if there is one, does not hold yet."""
    return set(plan.indices) - (run.covered_indices() if run else set())


def wait_for_others(plan: Plan, run: Run, report: Report, deadline: float) -> bool:
    """Wait until a part that another process held is free or done; False when there is none, or
    time is up.
    """
    while report.busy:
        todo = missing(plan, run) - report.failed.keys()
        parts = [part for part in plan.parts(run.covered_indices()) if todo & set(part)]
        # Whoever holds the first part of a window goes on with the others.
        first_parts = [group[0] for group, _ in windows(plan, parts)]
        free = [part for part in first_parts if not run.claimed(plan.config.claim_name(part[0]))]
        if free or not todo:
            return bool(free)
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return False


def run_hands(job: Job, plan: Plan, hands: Hands, tell: Tell) -> tuple[int, Plan]:
    """Do what is left of a plan, and return how many workers died, and the plan as they had it.

    A cluster's devices are those of its nodes, so that each worker looks at its own.
    """
    by_crew()  # a command that submits itself leaves the work to its jobs
    hands = hands.gathered()
    # The number of workers decides how many parts a window has, so that each finds some.
    plan = replace(plan, n_workers=len(hands.devices))
    # A single worker needs no process of its own, and errors keep their traceback.
    if hands.engine == "local" and len(hands.devices) == 1:
        work(job, plan, hands.devices[0], tell)
        return 0, plan
    todo = partial(work, job, plan)
    return run_workers(hands, todo, lambda _, event: tell(event), [job.store]), plan

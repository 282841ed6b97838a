"""Extraction on this machine: one process a device, all running the same loop over the same parts.

The processes share nothing but the store: a part belongs to whoever holds its claim, and a committed part is done.
So more devices, more machines (SLURM arrays) or the same command started twice are all the same thing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kvtool.engine.match import Extraction, find_run, open_extraction, replace_changed, stale_parts
from kvtool.engine.nonfinite import warn_of_nonfinite
from kvtool.engine.pipeline import Event, Tell, run_parts
from kvtool.engine.plan import Job, Plan, make_plan
from kvtool.engine.reuse import Source, open_source
from kvtool.errors import BusyError, KvtoolError, ModelError, StoreError, UsageError
from kvtool.models.hub import resolve
from kvtool.store import open_store, same_numbers
from kvtool.store.layout import part_range
from kvtool.store.nonfinite import Place

if TYPE_CHECKING:
    from kvtool.store import Run, Store
    from kvtool.types import ModelInfo

POLL_SECONDS = 0.5
TEXT_CLAIM = "text"
STOPPED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Failure:
    """An image that could not be extracted, and why."""

    id: str
    reason: str


@dataclass
class Report:
    """What an extraction came to. n_done, n_bytes: of this call's processes; n_by_others: stored by others meanwhile;
    n_reused: those of which features before the decoder came from the run `source`. `failed`: by dataset index; `busy`:
    who holds the parts that others are at; `left_out`: a line for each picture that the data set could not even list,
    see DatasetBase.unread; `nonfinite`: how many stored values are NaN or infinite, see Run.nonfinite.
    """

    run: str
    n_images: int
    n_before: int = 0
    n_done: int = 0
    n_by_others: int = 0
    n_bytes: int = 0
    n_reused: int = 0
    source: str | None = None
    seconds: float = 0.0
    failed: dict[int, Failure] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    nonfinite: dict[Place, int] = field(default_factory=dict)

    @property
    def n_missing(self) -> int:
        """Images neither stored nor failed: parts that other processes still hold."""
        return self.n_images - self.n_before - self.n_done - self.n_by_others - len(self.failed)

    def hear(self, event: Event) -> None:
        if event.what == "done":
            self.n_done += event.n
        elif event.what == "bytes":
            self.n_bytes += event.n
        elif event.what == "reused":
            self.n_reused += event.n
        elif event.what == "failed":
            self.failed[event.index] = Failure(event.id, event.message)
        elif event.what == "busy":
            self.busy.append(event.message)


@dataclass(frozen=True)
class Estimate:
    """What `--dry-run` prints. Bytes are before compression; `n_probed` images were measured for it. `source`: the run
    that features before the decoder would come from."""

    run: str
    n_images: int
    n_before: int
    n_todo: int
    image_bytes: int
    todo_bytes: int
    expected_bytes: int
    free_bytes: int
    n_probed: int
    source: str | None


def estimate(job: Job) -> Estimate:
    """Bytes and free space of a job; writes nothing, not even the store."""
    from kvtool.models import load_model
    from kvtool.store import existing_store
    from kvtool.store.estimate import expected_bytes, free_bytes

    extraction = open_extraction(job)
    store = existing_store(job.store)
    run = find_run(extraction, store) if store else None
    model = load_model(job.model, dtype=job.dtype, attention=job.attention, weights=False)
    plan = make_plan(extraction, model, run, store)
    todo = missing(plan, run)
    if run is not None:
        stale, _ = stale_parts(extraction, run)
        todo |= {index for part in stale for index in part.indices} & set(plan.indices)
    n_todo = len(todo)
    todo_bytes = n_todo * plan.image_bytes
    return Estimate(
        run=plan.config.name,
        n_images=len(plan.refs),
        n_before=len(plan.refs) - n_todo,
        n_todo=n_todo,
        image_bytes=plan.image_bytes,
        todo_bytes=todo_bytes,
        expected_bytes=expected_bytes(todo_bytes, plan.config.codec, job.dtype),
        free_bytes=free_bytes(job.store),
        n_probed=plan.n_probed,
        source=plan.source,
    )


def extract(
    job: Job,
    *,
    devices: Sequence[str] = ("auto",),
    engine: str = "local",
    wait_s: float = 0.0,
    min_free_vram: int | None = None,
    tell: Tell | None = None,
    begin: Callable[[Report], None] | None = None,
) -> Report:
    """Extract what a run still lacks. Images that cannot be read are left out and listed in the report.

    devices: torch device names, a process each; "auto" is cuda:0 where there is one, else cpu.
    wait_s: how long to wait for parts that other processes hold once all others are done.
    begin: called once with the report when it is known what is to do, before the weights are loaded.
    Where there is nothing to do, neither torch nor a model is loaded. Raises KvtoolError; what was committed by then
    stays, and the same call goes on from there.
    """
    started = time.monotonic()
    extraction = open_extraction(job)
    store = open_store(job.store, create=True)
    run = find_run(extraction, store)
    if run is not None and not replace_changed(extraction, run) and is_done(extraction, run):
        report = Report(run.name, extraction.n_images, n_before=extraction.n_images, nonfinite=run.nonfinite())
        report.left_out = extraction.left_out
        warn_of_nonfinite(run.config, report.nonfinite, set())
        report.seconds = time.monotonic() - started
        return report
    if not extraction.snapshot.revision:  # a hub model whose weights are not here yet: fetch them, then look again
        extraction = replace(extraction, snapshot=resolve(job.model))
        run = find_run(extraction, store)
    if engine == "local":
        # Not yet how much is free: that is asked when the work begins.
        resolve_devices(devices, None if min_free_vram is None else 0)
    report = _extract(extraction, store, run, devices, engine, started, wait_s, min_free_vram, tell, begin)
    report.left_out = extraction.left_out
    return report


def is_done(extraction: Extraction, run: Run) -> bool:
    """Whether a run holds all that an extraction asks for; where its data set moved or grew, the roster says so."""
    wanted = set(extraction.ids[: extraction.job.limit])
    if not wanted <= {picture.id for picture in run.pictures}:
        return False
    if "value" in run.config.kinds and not set(extraction.dataset.texts()) <= set(run.text_names):
        return False
    with contextlib.suppress(StoreError):  # a store that cannot be written still holds all
        run.enroll(extraction.ids, extraction.place)
    return True


def _extract(
    extraction: Extraction,
    store: Store,
    run: Run | None,
    devices: Sequence[str],
    engine: str,
    started: float,
    wait_s: float,
    min_free_vram: int | None,
    tell: Tell | None,
    begin: Callable[[Report], None] | None,
) -> Report:
    """Do what there is to do, with the model."""
    from kvtool.models import load_model
    from kvtool.store.estimate import check_space, expected_bytes

    job = extraction.job
    model = load_model(job.model, dtype=job.dtype, attention=job.attention, weights=False)
    plan = make_plan(extraction, model, run, store)
    store.sweep_tmp()
    # Made by the first worker whose model loads, so that a request that fails leaves no empty run behind.
    report = Report(plan.config.name, len(plan.refs), source=plan.source)
    report.n_before = report.n_images - len(missing(plan, run))
    if begin:
        begin(report)

    told: set[Place] = set()

    def hear(event: Event) -> None:
        report.hear(event)
        warn_of_nonfinite(plan.config, event.places, told)
        if tell:
            tell(event)

    while (todo := missing(plan, run) - report.failed.keys()) or lacks_texts(plan, run):
        report.busy.clear()
        check_space(store.path, expected_bytes(len(todo) * plan.image_bytes, plan.config.codec, job.dtype))
        run_devices(job, plan, devices, engine, min_free_vram, hear)
        run = plan.open_run(store)
        plan = plan.within(run)
        report.run = run.name
        if not wait_for_others(plan, run, report, started + wait_s):
            break
    stored = report.n_images - len(missing(plan, run))
    report.n_by_others = max(0, stored - report.n_before - report.n_done)
    holders = run.holders() if run else {}
    parts = {name: owner for name, owner in holders.items() if part_range(name) or name == TEXT_CLAIM}  # no answers
    report.busy = [f"part {name} is held by {owner or 'an unknown process'}" for name, owner in parts.items()]
    report.failed = dict(sorted(report.failed.items()))
    report.nonfinite = run.nonfinite() if run else {}
    warn_of_nonfinite(plan.config, report.nonfinite, told)
    report.seconds = time.monotonic() - started
    return report


def missing(plan: Plan, run: Run | None) -> set[int]:
    """Dataset indices that the run, if there is one, does not hold yet."""
    return set(plan.indices) - (run.covered_indices() if run else set())


def lacks_texts(plan: Plan, run: Run | None) -> bool:
    return not set(plan.texts) <= set(run.text_names if run else ())


def wait_for_others(plan: Plan, run: Run, report: Report, deadline: float) -> bool:
    """Wait until a part that another process held is free or done; False when there is none, or time is up."""
    while report.busy:
        todo = missing(plan, run) - report.failed.keys()
        parts = [part for part in plan.parts(run.covered_indices()) if todo & set(part)]
        free = [part for part in parts if not run.claimed(plan.config.claim_name(part[0]))]
        if free or not todo:
            return bool(free)
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return False


def resolve_devices(devices: Sequence[str], min_free_vram: int | None) -> tuple[str, ...]:
    """Names of usable devices of this machine. Raises UsageError where CUDA is not there, or a CPU was to have free
    VRAM; BusyError where too little of it is free."""
    import torch

    from kvtool.models.device import find_device

    if tuple(devices) == ("auto",):
        devices = ("cuda:0",) if torch.cuda.is_available() else ("cpu",)
    for name in devices:
        device = find_device(name)
        if min_free_vram is None:
            continue
        if device.type != "cuda":
            raise UsageError(f"--min-free-vram: expected a CUDA device, found {name}; leave it out, or name --devices")
        free, total = torch.cuda.mem_get_info(device)
        if free < min_free_vram:
            raise BusyError(
                f"{name}: expected {min_free_vram / 1e9:.1f} GB of free memory, found {free / 1e9:.1f} of "
                f"{total / 1e9:.1f}; try again later or choose another --devices"
            )
    return tuple(devices)


def run_devices(
    job: Job, plan: Plan, devices: Sequence[str], engine: str, min_free_vram: int | None, tell: Tell
) -> None:
    """Do what is left of a plan. A cluster's devices are those of its nodes, so that each worker looks at its own."""
    if engine == "ray":
        from kvtool.engine.ray import run_ray

        run_ray(job, plan, devices, min_free_vram, tell)
        return
    devices = resolve_devices(devices, min_free_vram)
    if len(devices) == 1:
        work(job, plan, devices[0], tell)
    else:
        run_processes(job, plan, devices, tell)


def work(job: Job, plan: Plan, device: str, tell: Tell) -> None:
    """One worker: load the model, see what the run still lacks, and do what nobody else holds."""
    from kvtool.models import load_model

    model = load_model(job.model, device=device, dtype=job.dtype, attention=job.attention)
    store = open_store(job.store)
    check_same_model(plan.config.model, model.info)
    run = plan.open_run(store)
    plan = plan.within(run)
    source = open_source(store.run(plan.source), plan.config, plan.refs) if plan.source else None
    write_texts(plan, run, model, source)
    todo = plan.parts(run.covered_indices())
    run_parts(plan, run, model, todo, batch_size=job.batch_size, strict=job.strict, tell=tell, source=source)


def check_same_model(planned: ModelInfo, loaded: ModelInfo) -> None:
    """Raises ModelError where a worker's copy of the model is not the one that the plan was made with."""
    if not same_numbers(planned, loaded):
        raise ModelError(
            f"model {loaded.name}: expected revision {planned.revision}, with which the run was planned, found "
            f"{loaded.revision} here; give every worker the same files"
        )


def write_texts(plan: Plan, run: Run, model: Any, source: Source | None = None) -> None:
    """Vectors of the data set's class names and expressions, once a run; another worker may be at it."""
    if lacks_texts(plan, run):
        with contextlib.suppress(BusyError), run.claim(TEXT_CLAIM):
            found = source.text_values(plan.texts, plan.request.layers) if source else None
            run.commit_text(plan.texts, model.text_values(plan.texts, plan.request.layers) if found is None else found)


def run_processes(job: Job, plan: Plan, devices: Sequence[str], tell: Tell) -> None:
    """A process a device; the first error of any stops all."""
    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    processes = [context.Process(target=_process, args=(job, plan, device, events), daemon=True) for device in devices]
    try:
        with _interrupts_ignored():
            for process in processes:
                process.start()
        for event in _events(events, processes):
            tell(event)
    except BaseException:
        for process in processes:
            if process.pid is not None:
                process.terminate()
        raise
    finally:
        for process in processes:
            if process.pid is not None:
                process.join()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started meanwhile ignore Ctrl-C, which reaches all of a terminal's, from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _process(job: Job, plan: Plan, device: str, events: Any) -> None:
    """A worker that its parent stops with SIGTERM releases its claims first. An error that is no KvtoolError keeps its
    traceback, and the parent finds the process dead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    try:
        work(job, plan, device, events.put)
    except KvtoolError as error:
        events.put(error)
    events.put(None)


def _events(events: Any, processes: Sequence[Any]) -> Iterator[Event]:
    """Events until every process has said it ended. Raises what a process raised, or names one that died."""
    ended = 0
    while ended < len(processes):
        try:
            event = events.get(timeout=1.0)
        except queue.Empty:
            dead = [p for p in processes if p.exitcode not in (None, 0)]
            if dead:
                raise KvtoolError(
                    f"worker process {dead[0].pid}: expected it to finish, found it dead (exit {dead[0].exitcode}); "
                    "what it had committed stays: run the same command again"
                ) from None
            continue
        if event is None:
            ended += 1
        elif isinstance(event, KvtoolError):
            raise event
        else:
            yield event

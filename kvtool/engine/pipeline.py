"""One device's share of an extraction: prepare the next part, run this one, write the last one, all
at once.

Three stages, each with at most one part in hand: a thread that claims and prepares, the caller's
thread with the model, and a thread that writes. Between them stand queues of length one, so the
memory held is bounded by the pixels of two parts and the arrays of three, however many images there
are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, cast

from rich.filesize import decimal

from kvtool.engine.capture import Arrays, capture_part
from kvtool.engine.plan import Plan
from kvtool.engine.preparing import prepare_ref
from kvtool.errors import BusyError, ImageError
from kvtool.progress import Progress
from kvtool.store import part_name
from kvtool.store.nonfinite import StoredBlock

if TYPE_CHECKING:
    from kvtool.engine.reuse import FeatureSource
    from kvtool.models.base import LanguageModel, Model, Prepared
    from kvtool.store import Run
    from kvtool.types import Sample

PREPARE_THREADS = 4
_END = object()


@dataclass(frozen=True)
class Event:
    """What a worker tells as it goes: `done` and `failed` images, `busy` parts of others, `bytes`
    written, images whose features are `reused` from another run, and blocks that hold `nonfinite`
    values, each once.
    """

    what: str
    n: int = 0
    index: int = -1
    id: str = ""
    message: str = ""
    blocks: tuple[StoredBlock, ...] = ()


Tell = Callable[[Event], None]


def told(progress: Progress, tell: Tell | None = None) -> Tell:
    """Return what tells of images that are done or failed, and of the bytes written so far."""
    n_bytes = 0

    def pass_on(event: Event) -> None:
        """Count an event."""
        nonlocal n_bytes
        n_bytes += event.n if event.what == "bytes" else 0
        progress(event.n if event.what in ("done", "failed") else 0, f"{decimal(n_bytes)} written")
        if tell is not None:
            tell(event)

    return pass_on


@dataclass
class PartWork:
    """A claimed part on its way. `prepared` is let go once captured: it holds the pixels."""

    name: str
    prepared: list[Prepared]
    claim: ExitStack
    samples: list[Sample] = field(default_factory=list)
    arrays: Arrays = field(default_factory=dict)
    text: Arrays = field(default_factory=dict)


def run_parts(
    plan: Plan,
    run: Run,
    model: Model,
    parts: Sequence[tuple[int, ...]],
    *,
    batch_size: int,
    strict: bool,
    tell: Tell,
    source: FeatureSource | None = None,
) -> None:
    """Extract those of `parts` that nobody else holds, what `source` holds of them from there.

    Raises KvtoolError; whatever was committed stays.
    """
    stop = threading.Event()
    ready: Queue[Any] = Queue(1)
    done: Queue[Any] = Queue(1)
    errors: list[BaseException] = []
    prepare = (_prepare_parts, errors, stop, ready, plan, run, model, parts, source, strict, tell)
    write = (_write_parts, errors, stop, done, run, tell)
    threads = [threading.Thread(target=_guarded, args=args) for args in (prepare, write)]
    for thread in threads:
        thread.start()
    work: PartWork | None = None
    try:
        for work in _take(ready, stop):
            work.arrays, work.text = capture_part(model, plan, work.prepared, batch_size)
            work.samples, work.prepared = [item.sample for item in work.prepared], []
            if _give(done, work, stop):
                work = None
        _give(done, _END, stop)
        threads[1].join()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        # After a failure parts may be anywhere on their way: whoever comes next may claim them.
        for leftover in (work, *_drain(ready), *_drain(done)):
            if isinstance(leftover, PartWork):
                leftover.claim.close()
    if errors:
        raise errors[0]


def _guarded(
    target: Callable[..., None], errors: list[BaseException], stop: threading.Event, *args: Any
) -> None:
    try:
        target(stop, *args)
    except BaseException as error:  # noqa: BLE001  handed to the caller's thread
        errors.append(error)
        stop.set()


def _prepare_parts(
    stop: threading.Event,
    ready: Queue[Any],
    plan: Plan,
    run: Run,
    model: Model,
    parts: Sequence[tuple[int, ...]],
    source: FeatureSource | None,
    strict: bool,
    tell: Tell,
) -> None:
    with ThreadPoolExecutor(PREPARE_THREADS) as pool:
        for indices in parts:
            if stop.is_set():
                return
            with _claimed(run, plan.config.claim_name(indices[0]), tell) as claim:
                # Held by another process, or committed by it since the plan was made.
                if claim is None or covered_now(run, indices):
                    continue
                prepared = list(
                    pool.map(
                        lambda index: prepare_one(plan, model, index, strict, tell, source), indices
                    )
                )
                good = [item for item in prepared if item is not None]
                if good:
                    if source is not None:
                        tell(
                            Event("reused", sum(item.sample.id in source.samples for item in good))
                        )
                    # Named after what it holds, so that images left out now find their own name
                    # free later.
                    name = part_name(good[0].sample.index, good[-1].sample.index + 1)
                    work = PartWork(name, good, claim.pop_all())
                    if not _give(ready, work, stop):
                        work.claim.close()
    _give(ready, _END, stop)


@contextmanager
def _claimed(run: Run, name: str, tell: Tell) -> Iterator[ExitStack | None]:
    """Hold a part's claim; None where another process holds it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(run.claim(name))
        except BusyError as busy:
            tell(Event("busy", message=str(busy)))
            yield None
            return
        yield stack


def covered_now(run: Run, indices: Sequence[int]) -> bool:
    """Return whether another process committed these images since the plan was made."""
    return set(indices) <= run.covered_indices(range(indices[0], indices[-1] + 1))


def prepare_one(
    plan: Plan,
    model: Model,
    index: int,
    strict: bool,
    tell: Tell,
    source: FeatureSource | None = None,
) -> Prepared | None:
    """Decode and preprocess one image, or read what the source holds of it; a bad one is told and
    left out, or raised under `strict`.
    """
    ref, prefix = plan.ref(index), plan.prefix(index)
    try:
        if prefix is None:
            raise ImageError(
                f"image {ref.id}: expected a text for --prefix {plan.config.prefix}, found none "
                "for it"
            )
        if source is not None and ref.id in source.samples:
            stored = source.prepare(cast("LanguageModel", model), ref.id, index, prefix)
            if stored is not None:
                return stored
        return prepare_ref(model, ref, index, prefix, plan.config.view)
    except ImageError as error:
        if strict:
            raise
        tell(Event("failed", 1, index, ref.id, str(error)))
        return None


def _write_parts(stop: threading.Event, done: Queue[Any], run: Run, tell: Tell) -> None:
    told: set[StoredBlock] = set()
    for work in _take(done, stop):
        with work.claim:
            n_bytes = run.commit_part(work.name, work.samples, work.arrays, work.text)
        span = range(work.samples[0].index, work.samples[-1].index + 1)
        if blocks := run.nonfinite(span).keys() - told:
            told |= blocks
            tell(Event("nonfinite", blocks=tuple(sorted(blocks))))
        tell(Event("bytes", n_bytes))
        tell(Event("done", len(work.samples)))


def _give(queue: Queue[Any], item: Any, stop: threading.Event) -> bool:
    """Put, unless the pipeline stops meanwhile; says whether it was put."""
    while not stop.is_set():
        try:
            queue.put(item, timeout=0.1)
        except Full:
            continue
        return True
    return False


def _take(queue: Queue[Any], stop: threading.Event) -> Iterator[Any]:
    """Items up to the end mark, or until the pipeline stops."""
    while not stop.is_set():
        try:
            item = queue.get(timeout=0.1)
        except Empty:
            continue
        if item is _END:
            return
        yield item


def _drain(queue: Queue[Any]) -> list[Any]:
    items = []
    while not queue.empty():
        items.append(queue.get_nowait())
    return items

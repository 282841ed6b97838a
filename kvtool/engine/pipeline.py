"""One device's share of an extraction: prepare the next part, run this one, write the last one, all
at once.

Three stages: a thread that claims and prepares, the caller's thread with the model, and a thread
that writes. Between them stand queues of length one. Pictures wait for others of their shape
within a window of parts (kvtool.engine.windows), so that the memory held is bounded by the pixels
of a window and two parts and the arrays of a window and three parts, however many images there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

from kvtool.engine.batches import PartWork, Pool
from kvtool.engine.by_layer import Sweep
from kvtool.engine.capture import Capture
from kvtool.engine.events import Event, Tell
from kvtool.engine.plan import BatchSize, Plan
from kvtool.engine.ready_parts import Preparer
from kvtool.engine.windows import Indices

if TYPE_CHECKING:
    from kvtool.engine.reuse import FeatureSource
    from kvtool.models.base import Model
    from kvtool.store import Run
    from kvtool.store.nonfinite import StoredBlock

_END = object()


def run_parts(
    plan: Plan,
    run: Run,
    model: Model,
    parts: Sequence[Indices],
    *,
    batch_size: BatchSize,
    strict: bool,
    tell: Tell,
    source: FeatureSource | None = None,
) -> None:
    """Extract those of `parts` that nobody else holds, what `source` holds of them from there.

    Raises KvtoolError; whatever was committed stays.
    """
    from kvtool.models.threads import resting_threads

    # Queues of one item bound what waits between the stages to one part each.
    stop = threading.Event()
    ready: Queue[Any] = Queue(1)
    done: Queue[Any] = Queue(1)
    errors: list[BaseException] = []
    claims: list[ExitStack] = []
    preparer = Preparer(plan, run, model, source, strict, tell)
    prepare = (_prepare_parts, errors, stop, ready, preparer, parts, claims)
    write = (_write_parts, errors, stop, done, run, tell)
    threads = [threading.Thread(target=_guarded, args=args) for args in (prepare, write)]
    for thread in threads:
        thread.start()
    n_images = sum(map(len, parts))
    try:
        sweep = Sweep.of(model, plan, tell)
        capture = Capture(model, plan.request, batch_size, n_images, tell, sweep)
        # While others prepare and write, the model's threads must not spin on their cores.
        with resting_threads():
            for work in _captured(capture, _take(ready, stop), stop):
                if not _give(done, work, stop):
                    break
        # The end mark comes only behind the last part: the writer has then seen all of them.
        _give(done, _END, stop)
        threads[1].join()
    finally:
        # In any case both threads must see the stop before the claims are given back.
        stop.set()
        for thread in threads:
            thread.join()
        # After a failure parts may be anywhere on their way: whoever comes next may claim them.
        for claim in claims:
            claim.close()
    if errors:
        raise errors[0]


def _captured(capture: Capture, ready: Iterator[Any], stop: threading.Event) -> Iterator[PartWork]:
    """Yield parts whose images ran, as they come to be whole."""
    pool = Pool(capture.size_of)
    works: list[PartWork] = []
    for piece in ready:
        pool.add(piece.images)
        # Each part once, in the order in which its images come.
        works += dict.fromkeys(image.work for image in piece.images if image.work)
        del piece.images[:]  # the pool alone holds pixels
        for batches in pool.take(capture.wanted, piece.ends):
            capture.run(batches)
            yield from _captured_parts(works)
    if not stop.is_set():
        capture.finish()
        yield from _captured_parts(works)


def _captured_parts(works: list[PartWork]) -> Iterator[PartWork]:
    """Yield the parts whose images all ran, and take them out."""
    while part := next((work for work in works if work.is_captured), None):
        works.remove(part)
        yield part


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
    preparer: Preparer,
    parts: Sequence[Indices],
    claims: list[ExitStack],
) -> None:
    for piece in preparer.ready(parts, claims):
        if not _give(ready, piece, stop):
            return
    _give(ready, _END, stop)


def _write_parts(stop: threading.Event, done: Queue[Any], run: Run, tell: Tell) -> None:
    told: set[StoredBlock] = set()
    for work in _take(done, stop):
        # The claim ends only once the part is committed, or another process would take it.
        with work.claim:
            work.wait()
            # The writer copies images one after the other into a shard's buffer.
            n_bytes = run.commit_part(work.name, work.samples, work.arrays, work.text)
        # Looked up in what is committed: the writer counted them as it copied.
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

"""A worker process for each device of this machine, and the events that they tell."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from kvtool.engine.events import Event, Tell
from kvtool.engine.plan import Job, Plan
from kvtool.engine.worker import work
from kvtool.errors import KvtoolError

STOPPED = 128 + signal.SIGTERM


def run_processes(job: Job, plan: Plan, devices: Sequence[str], tell: Tell) -> None:
    """A process a device; the first error of any stops all."""
    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    processes = [
        context.Process(target=_process, args=(job, plan, device, events), daemon=True)
        for device in devices
    ]
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
    """Processes started meanwhile ignore Ctrl-C, which reaches all of a terminal's, from their
    first moment on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _process(job: Job, plan: Plan, device: str, events: Any) -> None:
    """A worker that its parent stops with SIGTERM releases its claims first.

    An error that is no KvtoolError keeps its traceback, and the parent finds the process dead.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    try:
        work(job, plan, device, events.put)
    except KvtoolError as error:
        events.put(error)
    events.put(None)


def _events(events: Any, processes: Sequence[Any]) -> Iterator[Event]:
    """Events until every process has said it ended.

    Raises what a process raised, or names one that died.
    """
    ended = 0
    while ended < len(processes):
        try:
            event = events.get(timeout=1.0)
        except queue.Empty:
            dead = [p for p in processes if p.exitcode not in (None, 0)]
            if dead:
                raise KvtoolError(
                    f"worker process {dead[0].pid}: expected it to finish, found it dead (exit "
                    f"{dead[0].exitcode}); "
                    "what it had committed stays: run the same command again"
                ) from None
            continue
        if event is None:
            ended += 1
        elif isinstance(event, KvtoolError):
            raise event
        else:
            yield event

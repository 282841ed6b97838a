"""A worker process for each device of this machine, and what they tell."""

from __future__ import annotations

import logging
import multiprocessing
import queue
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from kvtool.errors import KvtoolError

STOPPED = 128 + signal.SIGTERM
START = "spawn"
"""How a worker begins: as a new interpreter, for CUDA survives no fork."""
POLL_S = 0.5
"""How long the parent waits for what workers tell before it looks whether they live."""

Tell = Callable[[Any], None]
"""Takes what a worker tells; it travels, so it is plain data."""
Work = Callable[[str, Tell], None]
"""What a worker does on a device. It travels, too."""
Hear = Callable[[int, Any], None]
"""Takes the number of a worker, in the order of the devices, and what it tells."""


@dataclass(frozen=True)
class _Ended:
    """The last thing that a worker tells, with the error that ended it, if there was one."""

    error: KvtoolError | None = None


def never() -> bool:
    """Return False: workers go on until they end by themselves."""
    return False


_standing: ContextVar[dict[tuple[str, ...], Processes] | None] = ContextVar(
    "standing", default=None
)
"""Processes that wait for work, by their devices; None where none are kept."""


@contextmanager
def standing() -> Iterator[None]:
    """Keep processes for the next work on the same devices, so that those of several calls of
    run_processes made meanwhile begin once.
    """
    waiting: dict[tuple[str, ...], Processes] = {}
    token = _standing.set(waiting)
    try:
        yield
    finally:
        _standing.reset(token)
        for processes in waiting.values():
            processes.end()


def run_processes(
    work: Work, devices: Sequence[str], hear: Hear, is_over: Callable[[], bool] = never
) -> None:
    """Do some work in a process for each device.

    Args:
        work: what each does.
        devices: torch's names; a process each, also where one is named twice.
        hear: called in this process with all that workers tell.
        is_over: asked now and then; once it is true, the workers that are left are stopped.

    Raises the first error of any worker, and stops all others then.
    """
    waiting = _standing.get()
    processes = (waiting or {}).pop(tuple(devices), None) or Processes(devices)
    try:
        has_ended = processes.do(work, hear, is_over)
    except BaseException:
        processes.stop()
        raise
    if not has_ended:
        processes.stop()
    elif waiting is None:
        processes.end()
    else:
        waiting[tuple(devices)] = processes


class Processes:
    """A process for each device, which do one work after another."""

    def __init__(self, devices: Sequence[str]) -> None:
        context: Any = multiprocessing.get_context(START)
        self._messages = context.Queue()
        self._orders = []
        self._processes = []
        _name_shared(devices)
        for number, device in enumerate(devices):
            orders, order = context.Pipe(duplex=False)
            arguments = (device, number, orders, self._messages)
            self._orders.append(order)
            self._processes.append(context.Process(target=_process, args=arguments, daemon=True))

    def do(self, work: Work, hear: Hear, is_over: Callable[[], bool]) -> bool:
        """Let all do some work, and return whether all ended it; see run_processes."""
        with _interrupts_ignored():
            for process in self._processes:
                if process.pid is None:
                    process.start()
        self._send(work)
        n_ended = 0
        while n_ended < len(self._processes) and not is_over():
            told = self._told()
            if told is None:
                continue
            number, message = told
            if not isinstance(message, _Ended):
                hear(number, message)
            elif message.error is None:
                n_ended += 1
            else:
                raise message.error
        return n_ended == len(self._processes)

    def _told(self) -> tuple[int, Any] | None:
        """Return what one tells next, None where that takes long. Raises KvtoolError where one
        died.
        """
        try:
            told: tuple[int, Any] = self._messages.get(timeout=POLL_S)
        except queue.Empty:
            dead = [p for p in self._processes if p.exitcode not in (None, 0)]
            if dead:
                raise KvtoolError(
                    f"worker process {dead[0].pid}: expected it to finish, found it dead (exit "
                    f"{dead[0].exitcode}); "
                    "what it had committed stays: run the same command again"
                ) from None
            return None
        return told

    def end(self) -> None:
        """Let all end, once they have no more work."""
        self._send(None)
        self._join()

    def stop(self) -> None:
        """Tell all to release their claims and end."""
        for process in self._processes:
            if process.pid is not None:
                process.terminate()
        self._join()

    def _send(self, work: Work | None) -> None:
        """Send some work to all; that one is dead is found where it is waited for."""
        for order in self._orders:
            with suppress(BrokenPipeError):
                order.send(work)

    def _join(self) -> None:
        for process in self._processes:
            if process.pid is not None:
                process.join()


def _name_shared(devices: Sequence[str]) -> None:
    """Say which GPUs several workers share, for each loads the model there."""
    for device, n_workers in Counter(devices).items():
        if n_workers > 1 and device != "cpu":
            logging.getLogger("kvtool").info(
                "%d workers on %s: each that runs the model loads it there", n_workers, device
            )


@contextmanager
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


def _process(device: str, number: int, orders: Any, messages: Any) -> None:
    """A worker, which does what it is sent until it is sent None or its parent is gone. One that
    its parent stops with SIGTERM releases its claims first.

    An error that is no KvtoolError keeps its traceback, and the parent finds the process dead.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    while (work := _sent(orders)) is not None:
        try:
            work(device, lambda message: messages.put((number, message)))
        except KvtoolError as error:
            messages.put((number, _Ended(error)))
        else:
            messages.put((number, _Ended()))


def _sent(orders: Any) -> Work | None:
    """Return the next work that the parent sends; None where there is no more, or no parent."""
    parent = multiprocessing.parent_process()
    while not orders.poll(POLL_S):
        if parent is None or not parent.is_alive():
            return None
    try:
        work: Work | None = orders.recv()
    except EOFError:
        return None
    return work

"""A worker process for each device of this machine, and what they tell."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

from kvtool.engine.stopping import end_stopped
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
IsOver = Callable[[AbstractSet[int]], bool]
"""Takes the numbers of the workers that did not die, and tells whether their work is to end."""


@dataclass(frozen=True)
class _Ended:
    """The last thing that a worker tells, with the error that ended it, if there was one."""

    error: KvtoolError | None = None


def never(_: AbstractSet[int]) -> bool:
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


def run_processes(work: Work, devices: Sequence[str], hear: Hear, is_over: IsOver = never) -> int:
    """Do some work in a process for each device, and return how many of them died.

    What one that dies has claimed is free from then on, so the others go on without it.

    Args:
        work: what each does.
        devices: torch's names; a process each, also where one is named twice.
        hear: called in this process with all that workers tell.
        is_over: asked now and then with the numbers of the workers that did not die; once it is
            true, those that are left are stopped.

    Raises the first error of any worker, and stops all others then; KvtoolError where all died.
    """
    waiting = _standing.get()
    # Processes that stand by are taken out while they work: a second call needs its own.
    processes = (waiting or {}).pop(tuple(devices), None) or Processes(devices)
    try:
        has_ended = processes.do(work, hear, is_over)
    except BaseException:
        processes.stop()
        raise
    n_dead = len(devices) - len(processes.alive)
    # Workers that did not end, or a crew with dead ones, are no good for the next work.
    if not has_ended or n_dead:
        processes.stop()
    elif waiting is None:
        processes.end()
    else:
        waiting[tuple(devices)] = processes
    return n_dead


class Processes:
    """A process for each device, which do one work after another.

    Attributes:
        alive: The numbers of those that did not die.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        context: Any = multiprocessing.get_context(START)
        self.alive = set(range(len(devices)))
        self._devices = devices
        self._messages: list[Any] = []
        self._orders = []
        self._processes = []
        self._far_ends: list[Any] = []
        _name_shared(devices)
        for device in devices:
            # Each has pipes of its own: one that is killed while it writes blocks no other.
            orders, order = context.Pipe(duplex=False)
            messages, message = context.Pipe(duplex=False)
            self._orders.append(order)
            self._messages.append(messages)
            self._far_ends += [orders, message]
            process = context.Process(target=_process, args=(device, orders, message), daemon=True)
            self._processes.append(process)

    def do(self, work: Work, hear: Hear, is_over: IsOver) -> bool:
        """Let all do some work, and return whether all that live ended it; see run_processes."""
        self._start()
        self._send(work)
        working = set(self.alive)
        while working and not is_over(self.alive):
            for number in self._heard(working):
                try:
                    message = self._next(number)
                except (EOFError, OSError):
                    # No last message came: the process died, and its claims are free.
                    working.remove(number)
                    self._lose(number)
                    continue
                if not isinstance(message, _Ended):
                    hear(number, message)
                elif message.error is None:
                    working.remove(number)
                else:
                    raise message.error
        return not working

    def _start(self) -> None:
        """Start all that have not begun."""
        with _interrupts_later():
            for process in self._processes:
                if process.pid is None:
                    process.start()
        # Only then does what is left of a dead one's pipe end.
        while self._far_ends:
            self._far_ends.pop().close()

    def _heard(self, working: AbstractSet[int]) -> list[int]:
        """Return those that told something, or died; none where that takes long."""
        # A pipe shows what was told, a sentinel a death without a word.
        numbers: dict[Any, int] = {}
        for number in sorted(working):
            numbers[self._messages[number]] = number
            numbers[self._processes[number].sentinel] = number
        return sorted({numbers[ready] for ready in wait(list(numbers), POLL_S)})

    def _next(self, number: int) -> Any:
        """Return what one tells. Raises EOFError where it died, and has nothing more to tell."""
        # What a dead process told first is taken one by one before its end counts.
        if not self._messages[number].poll():
            raise EOFError
        return self._messages[number].recv()

    def _lose(self, number: int) -> None:
        """Note that a process died. Raises KvtoolError where it was the last."""
        process = self._processes[number]
        process.join()
        self.alive.remove(number)
        line = (
            f"worker process {process.pid} on {self._devices[number]}: expected it to finish, "
            f"found it dead ({_death(process.exitcode)}); what it had committed stays: "
        )
        if not self.alive:
            raise KvtoolError(f"{line}run the same command again")
        logging.getLogger("kvtool").warning("%sthe others go on with its work", line)

    def end(self) -> None:
        """Let all end, once they have no more work."""
        self._send(None)
        self._join()

    def stop(self) -> None:
        """Tell all to release their claims and end."""
        for process in self._processes:
            if process.pid is not None:
                process.terminate()
        # Nobody hears any more what they still tell, and so they need not wait for that.
        for messages in self._messages:
            messages.close()
        end_stopped([process for process in self._processes if process.pid is not None])

    def _send(self, work: Work | None) -> None:
        """Send some work to all; that one is dead is found where it is waited for."""
        for order in self._orders:
            with suppress(BrokenPipeError):
                order.send(work)

    def _join(self) -> None:
        for process in self._processes:
            if process.pid is not None:
                process.join()


def _death(exit_code: int) -> str:
    """Return how a process ended, of its exit code as multiprocessing gives it."""
    if exit_code >= 0:
        return f"exit {exit_code}"
    name = signal.Signals(-exit_code).name
    is_killed = -exit_code == signal.SIGKILL
    return f"{name}{', as a machine short of memory ends it' if is_killed else ''}"


def _name_shared(devices: Sequence[str]) -> None:
    """Say which GPUs several workers share, for each loads the model there."""
    for device, n_workers in Counter(devices).items():
        if n_workers > 1 and device != "cpu":
            logging.getLogger("kvtool").info(
                "%d workers on %s: each that runs the model loads it there", n_workers, device
            )


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold back a Ctrl-C until the block has ended. Processes started meanwhile hold it back too,
    from their first moment on: it reaches all of a terminal's, and they are to ignore it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # It begins with the first process, and would let interrupts through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    came: list[int] = []
    # Threads of libraries still take it, and leave it to the main thread's handler.
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _process(device: str, orders: Any, messages: Any) -> None:
    """A worker, which does what it is sent until it is sent None or its parent is gone. One that
    its parent stops with SIGTERM releases its claims first.

    An error that is no KvtoolError keeps its traceback, and the parent finds the process dead.
    """
    # Set before the signal is let through again, which the parent had blocked at the start.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    # Worker threads share one pipe, in which two messages must not mix.
    lock = threading.Lock()

    def tell(message: Any) -> None:
        """Tell a message, from any thread. A parent that is gone hears nothing."""
        with lock, suppress(BrokenPipeError):
            messages.send(message)

    while (work := _sent(orders)) is not None:
        try:
            work(device, tell)
        except KvtoolError as error:
            tell(_Ended(error))
        else:
            tell(_Ended())


def _sent(orders: Any) -> Work | None:
    """Return the next work that the parent sends; None where there is no more, or no parent."""
    parent = multiprocessing.parent_process()
    # An orphan must end by itself: its parent can no longer send it None.
    while not orders.poll(POLL_S):
        if parent is None or not parent.is_alive():
            return None
    try:
        work: Work | None = orders.recv()
    except EOFError:
        return None
    return work

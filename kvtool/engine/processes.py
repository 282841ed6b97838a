"""A worker process for each device of this machine, and what they tell."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
    context: Any = multiprocessing.get_context(START)
    messages = context.Queue()
    _name_shared(devices)
    processes = [
        context.Process(target=_process, args=(work, device, number, messages), daemon=True)
        for number, device in enumerate(devices)
    ]
    try:
        with _interrupts_ignored():
            for process in processes:
                process.start()
        for number, message in _messages(messages, processes, is_over):
            hear(number, message)
        if is_over():
            _stop(processes)
    except BaseException:
        _stop(processes)
        raise
    finally:
        for process in processes:
            if process.pid is not None:
                process.join()


def _stop(processes: Sequence[Any]) -> None:
    """Tell workers to release their claims and end."""
    for process in processes:
        if process.pid is not None:
            process.terminate()


def _name_shared(devices: Sequence[str]) -> None:
    """Say which GPUs several workers share, for each loads the model there."""
    for device, n_workers in Counter(devices).items():
        if n_workers > 1 and device != "cpu":
            logging.getLogger("kvtool").info(
                "%d workers on %s: each that runs the model loads it there", n_workers, device
            )


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


def _process(work: Work, device: str, number: int, messages: Any) -> None:
    """A worker that its parent stops with SIGTERM releases its claims first.

    An error that is no KvtoolError keeps its traceback, and the parent finds the process dead.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    try:
        work(device, lambda message: messages.put((number, message)))
    except KvtoolError as error:
        messages.put((number, _Ended(error)))
    else:
        messages.put((number, _Ended()))


def _messages(
    messages: Any, processes: Sequence[Any], is_over: Callable[[], bool]
) -> Iterator[tuple[int, Any]]:
    """Yield what workers tell until each of them has told its end, or it is over.

    Raises what a process raised, or names one that died.
    """
    n_ended = 0
    while n_ended < len(processes) and not is_over():
        try:
            number, message = messages.get(timeout=POLL_S)
        except queue.Empty:
            dead = [p for p in processes if p.exitcode not in (None, 0)]
            if dead:
                raise KvtoolError(
                    f"worker process {dead[0].pid}: expected it to finish, found it dead (exit "
                    f"{dead[0].exitcode}); "
                    "what it had committed stays: run the same command again"
                ) from None
            continue
        if not isinstance(message, _Ended):
            yield number, message
        elif message.error is None:
            n_ended += 1
        else:
            raise message.error

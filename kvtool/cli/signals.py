"""Ctrl-C and SIGTERM at any moment: the first one unwinds the command, and none ever leaves a
traceback.

Next to nothing is imported here, since this has to be in place before anything else is.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE

PATIENCE_S = 2.0
"""So long a second signal is ignored: a terminal, a wrapper and a scheduler may each send one.

Later ones end the process at once, in case that the unwinding hangs.
"""
REPEAT_S = 0.5
"""How soon the unwinding starts again where some code swallowed the first attempt, as imports of C
modules do.
"""


class State:
    """The first signal that came, when (seconds of the monotonic clock), and whether the command
    has ended.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_s = 0.0
        self.ended = False


state = State()


def received() -> int | None:
    """Return the exit code of the signal that ends the command; None where none came."""
    return None if state.number is None else 128 + state.number


def install() -> None:
    """Take over Ctrl-C and SIGTERM, except where they were ignored from outside, as nohup and `&`
    in a script do.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _unwind)
    signal.signal(signal.SIGALRM, _unwind_again)
    sys.unraisablehook = _unraisable


def end() -> None:
    """From now on there is nothing to unwind: a signal ends the process at once."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    state.ended = True


def _unwind(number: int, _frame: FrameType | None) -> None:
    if state.ended:
        os._exit(128 + number)
    if state.number is None:
        state.number, state.at_s = number, time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, REPEAT_S, REPEAT_S)
        _raise()
    if time.monotonic() - state.at_s > PATIENCE_S:
        os._exit(128 + state.number)


def _unwind_again(_number: int, _frame: FrameType | None) -> None:
    """While `finally` and `except` blocks clean up, an exception is being handled; where none is,
    it was lost.
    """
    if not state.ended and sys.exc_info()[0] is None:
        _raise()


def _raise() -> None:
    if state.number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(received())


def _unraisable(lost: Any) -> None:
    """What a signal raises inside a destructor is no message for anyone; it is raised again
    elsewhere.
    """
    if state.number is None:
        sys.__unraisablehook__(lost)

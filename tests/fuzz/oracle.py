"""What may come of a hostile input: a value, or one line of a KvtoolError.

Anything else is counted.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import kvtool
from kvtool.errors import KvtoolError

PACKAGE = Path(kvtool.__file__).parent
Value = TypeVar("Value")

OUTCOMES = ("lost", "doubled", "wrong", "tracebacks", "hangs", "memory")


class Finding(Exception):  # noqa: N818  what it names is a fault of the package, not of the harness
    """A fault that is no exception of the package; `outcome` is one of OUTCOMES."""

    outcome = "wrong"


class Wrong(Finding):
    """A value that is not the one that bytes say."""


class Lost(Finding):
    """Something whole that can no longer be had."""

    outcome = "lost"


class Hang(BaseException):
    """The time for one input is over; no handler of exceptions may take it for an error of the
    input.
    """


@dataclass(frozen=True)
class Verdict:
    """outcome: "accepted", "refused" (at least in part), or one of OUTCOMES. what: one line.

    position: innermost place in the package.
    """

    outcome: str
    what: str = ""
    position: str = ""


def refused(call: Callable[..., Value], *arguments: Any, **options: Any) -> Value | None:
    """The value of a call, or None where the package refused it in the way it should."""
    try:
        return call(*arguments, **options)
    except KvtoolError as error:
        check_refusal(error)
        _refusals.append(str(error)[:200])
        return None


_refusals: list[str] = []
"""What the package refused of the input that is being tried."""


def check_refusal(error: KvtoolError) -> None:
    """A refusal is one line that says something, and was not preceded by all memory."""
    text = str(error)
    if not text.strip() or "\n" in text.strip() or "Traceback" in text:
        raise Wrong(f"{type(error).__name__} is not one line: {text[:200]!r}") from error
    if out_of_memory(error):
        raise MemoryError(f"refused only after memory ran out: {text[:150]}") from error


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, is that no memory was left."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def judge(attempt: Callable[[], None]) -> Verdict:
    """Run one input and say what came of it."""
    _refusals.clear()
    try:
        attempt()
    except KvtoolError as error:
        try:
            check_refusal(error)
        except (Wrong, MemoryError) as finding:
            return _verdict(finding)
        return Verdict("refused", str(error)[:200])
    except (Exception, Hang, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
        return _verdict(error)
    return Verdict("refused", _refusals[0]) if _refusals else Verdict("accepted")


def _verdict(error: BaseException) -> Verdict:
    if isinstance(error, Finding):
        outcome = error.outcome
    elif isinstance(error, Hang):
        outcome = "hangs"
    else:
        outcome = "memory" if out_of_memory(error) else "tracebacks"
    line = " ".join(str(error).split())[:300]
    return Verdict(outcome, f"{type(error).__name__}: {line}", innermost(error.__cause__ or error))


def innermost(error: BaseException) -> str:
    """file:line function of the last frame inside the package; of the harness where there is
    none.
    """
    frames = traceback.extract_tb(error.__traceback__)
    package = [frame for frame in frames if frame.filename.startswith(f"{PACKAGE}/")]
    if not (package or frames):
        return ""
    frame = (package or frames)[-1]
    return f"{frame.filename.removeprefix(f'{PACKAGE.parent}/')}:{frame.lineno} {frame.name}"

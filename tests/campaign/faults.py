"""System calls that fail: the n-th one of a small extraction, for every n, and of reading what it
wrote.

A command may end in one line or in success; then the store is opened, checked and the extraction
run again.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.campaign.checks import check_after_cut, check_holds
from tests.campaign.children import BROKEN, Outcome, run_child
from tests.campaign.extraction import STEPS, extract, tree
from tests.campaign.syscalls import Call, watched_calls
from tests.campaign.tally import Tally

Report = Callable[[Any], object]


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th call (0: never).

    code: the errno that is raised. lasting: all later calls fail, too. late: the call takes effect,
    then it fails, as over a network. short: a write stops half way, and goes on when it is asked
    to.
    """

    number: int
    code: int = errno.EIO
    lasting: bool = False
    late: bool = False
    short: bool = False

    def __str__(self) -> str:
        words = [name for name in ("lasting", "late", "short") if getattr(self, name)]
        return " ".join([f"call {self.number}", errno.errorcode[self.code], *words])


KINDS = (
    *(Fault(0, code) for code in (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EDQUOT)),
    Fault(0, errno.EIO, lasting=True),
    Fault(0, errno.ENOSPC, lasting=True),
    Fault(0, errno.EIO, late=True),
    Fault(0, short=True),
)


class Injector:
    """A hook that counts calls and lets them fail as a fault says.

    `names`: those that were counted.
    """

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.names: list[str] = []

    def __call__(self, call: Call) -> Any:
        self.names.append(call.name)
        number, fault = len(self.names), self.fault
        if number != fault.number and not (fault.lasting and 0 < fault.number < number):
            return call.run()
        if fault.short:
            return self._half(call) if call.name == "write" else call.run()
        if fault.late or call.name == "close":  # a descriptor is closed whatever close() says
            call.run()
        raise OSError(fault.code, f"injected {errno.errorcode[fault.code]}", call.path)

    @staticmethod
    def _half(call: Call) -> Any:
        data = memoryview(call.args[1]).cast("B")
        return call.run(call.args[0], data[: max(1, len(data) // 2)])


def with_fault(
    fault: Fault, folder: Path, work: Callable[[Report], object]
) -> tuple[Outcome, list[str]]:
    """Run `work(report)` in a process of its own under a fault; how it ended, and the calls that
    were counted.
    """
    injector = Injector(fault)

    def injected(report: Report) -> None:
        try:
            with watched_calls(folder, injector):
                work(report)
        finally:
            report(injector.names)

    outcome = run_child(injected)
    names = (
        outcome.reports.pop() if outcome.reports and isinstance(outcome.reports[-1], list) else []
    )
    return outcome, names


def faults(names: Sequence[str], step: int) -> Iterator[Fault]:
    """Every kind of fault at every `step`-th of these calls, each kind beginning elsewhere.

    Only a write can stop half way.
    """
    for offset, kind in enumerate(KINDS):
        for number in range(1 + offset % step, len(names) + 1, step):
            if not kind.short or names[number - 1] == "write":
                yield Fault(number, kind.code, kind.lasting, kind.late, kind.short)


def _struck(fault: Fault, called: Sequence[object]) -> object:
    """The call that the fault struck, of those that were made."""
    return called[fault.number - 1] if fault.number <= len(called) else "not reached"


def run_writing(folder: Path, step: int = 1) -> list[Tally]:
    """Faults at every `step`-th call of an extraction, after each of which it is run again."""
    extract(folder / "whole.kv")
    expected = tree(folder / "whole.kv")
    tally = Tally("faults: the n-th call of an extraction")
    _, names = with_fault(
        Fault(0), folder / "counted.kv", lambda report: extract(folder / "counted.kv", report)
    )
    for fault in faults(names, step):
        path = folder / "faulty.kv"
        work = partial(extract, path)
        outcome, called = with_fault(fault, path, work)
        what = f"writing, {fault} ({_struck(fault, called)})"
        _count_end(outcome, tally, what)
        check_after_cut(path, outcome.reports, expected, tally, what)
        shutil.rmtree(path, ignore_errors=True)
    return [tally]


def run_reading(folder: Path, step: int = 1) -> list[Tally]:
    """Reading under a fault never gives a wrong value and never changes a byte."""
    tally, path = Tally("faults: the n-th call of reading"), folder / "whole.kv"
    extract(path)
    expected = tree(path)
    _, names = with_fault(Fault(0), path, lambda report: _read(path, report))
    for fault in faults(names, step):
        tally.tried += 1
        outcome, called = with_fault(fault, path, lambda report: _read(path, report))
        what = f"reading, {fault} ({_struck(fault, called)})"
        _count_end(outcome, tally, what)
        for note in outcome.reports:
            tally.count("wrong", f"{what}: {note}")
    if tree(path) != expected:
        tally.count("wrong", "reading changed the store")
    return [tally]


def _read(path: Path, report: Report) -> None:
    """Read all of a store, and report what is wrong: not what is not found, which an error may
    explain.
    """
    tally = Tally("read")
    check_holds(path, STEPS, tally, "read")
    for note in tally.notes:
        if note.startswith(("doubled", "wrong")) and "injected" not in note:
            report(note)


def _count_end(outcome: Outcome, tally: Tally, what: str) -> None:
    if outcome.hung:
        tally.count("hangs", what)
    elif outcome.code == BROKEN or outcome.code < 0:
        tally.count("tracebacks", f"{what}: ended with {outcome.code}: {outcome.error}")

"""Inputs tried in forked processes: time and memory of each are bounded, and a crash costs one
input.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from tests.fuzz.kind import Kind
from tests.fuzz.oracle import PACKAGE, Hang, Verdict, judge
from tests.support.patience import hang_s

GRACE_S = 15
"""A worker that says nothing for this long after its time is killed: it hangs in C code."""
MEMORY_BYTES = 2 << 30
LARGEST_FILE_BYTES = 1 << 29


@dataclass(frozen=True)
class Tried:
    """One input and what came of it; peak_mb: how much the worker's memory had grown by then at
    most.
    """

    number: int
    verdict: Verdict
    peak_mb: float = 0.0


Keep = Callable[[Tried, Path], None]
"""Called with each input and its folder, in the worker, or here where the worker died of it."""


def input_random(kind: Kind, seed: int, number: int) -> random.Random:
    """The choices of an input, the same each time."""
    return random.Random(f"{kind.name}:{seed}:{number}")


def try_inputs(
    kind: Kind, numbers: Sequence[int], seed: int, scratch: Path, keep: Keep
) -> Iterator[Tried]:
    """Try these inputs in one worker after another: after a crash or a hang another goes on with
    the next input.
    """
    left = list(numbers)
    while left:
        for tried in _one_worker(kind, left, seed, scratch, keep):
            left = left[left.index(tried.number) + 1 :]
            yield tried


def _one_worker(
    kind: Kind, numbers: Sequence[int], seed: int, scratch: Path, keep: Keep
) -> Iterator[Tried]:
    """What a worker says of its inputs; where it dies, the last one is the input that killed it."""
    reading, writing = os.pipe()
    crash = scratch / "crash.txt"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _work(kind, numbers, seed, scratch, writing, crash, keep)
    os.close(writing)
    done, hung = 0, False
    try:
        for line in _lines(reading, pid):
            record = json.loads(line)
            done += 1
            yield Tried(record["number"], Verdict(**record["verdict"]), record["peak_mb"])
    except TimeoutError:
        hung = True
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.5)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if done < len(numbers):
        outcome, what = (
            ("hangs", "no end in C code") if hung else ("tracebacks", f"the process died: {status}")
        )
        tried = Tried(numbers[done], Verdict(outcome, what, crash_place(crash)))
        keep(tried, scratch / "input")
        yield tried


def _lines(fd: int, pid: int) -> Iterator[bytes]:
    """Lines of a process until it closes its pipe.

    Raises TimeoutError where nothing comes for too long.
    """
    buffer = b""
    while True:
        ready, _, _ = select.select([fd], [], [], hang_s(pid) + GRACE_S)
        if not ready:
            raise TimeoutError
        block = os.read(fd, 1 << 16)
        if not block:
            return
        *lines, buffer = (buffer + block).split(b"\n")
        yield from lines


def crash_place(report: Path) -> str:
    """The innermost place in the package of faulthandler's report, which names the innermost frame
    first.
    """
    pattern = re.compile(
        rf'File "{re.escape(str(PACKAGE.parent))}/(kvtool/[^"]+)", line (\d+) in (\w+)'
    )
    match = pattern.search(report.read_text(errors="replace"))
    return f"{match[1]}:{match[2]} {match[3]}" if match else ""


def _work(
    kind: Kind,
    numbers: Sequence[int],
    seed: int,
    scratch: Path,
    writing: int,
    crash: Path,
    keep: Keep,
) -> None:
    """The worker's whole life; it never returns."""
    exit_code = 1
    try:
        with crash.open("w") as report:
            _drop_output(scratch)
            faulthandler.enable(report)
            faulthandler.register(signal.SIGUSR1, report)
            _bound_process()
            for number in numbers:
                tried = _try(kind, number, seed, scratch)
                keep(tried, scratch / "input")
                os.write(writing, json.dumps(asdict(tried)).encode() + b"\n")
        exit_code = 0
    finally:
        os._exit(exit_code)


def _drop_output(scratch: Path) -> None:
    """What libraries print goes to a file, not to whoever runs the campaign."""
    descriptor = os.open(scratch / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _bound_process() -> None:
    signal.signal(signal.SIGALRM, _hang)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    global _start_kb
    _start_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


_start_kb = 0


def _grown_mb() -> float:
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - _start_kb) / 1024, 1)


def _hang(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise Hang(f"no end after {hang_s():.0f} s")


def _try(kind: Kind, number: int, seed: int, scratch: Path) -> Tried:
    """One input in a fresh folder, which is also the working folder; the alarm comes again where it
    is swallowed.
    """
    folder = scratch / "input"
    os.chdir(scratch)
    clear(folder)
    folder.mkdir()
    os.chdir(folder)
    rng = input_random(kind, seed, number)
    signal.setitimer(signal.ITIMER_REAL, hang_s(), 2)
    try:
        verdict = judge(lambda: kind.attempt(rng, folder))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return Tried(number, verdict, _grown_mb())


def clear(folder: Path) -> None:
    """Remove a folder, whatever an input made of it."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.is_symlink() or folder.exists():
        subprocess.run(["rm", "-rf", str(folder)], check=False)

"""The campaign: inputs of every kind, counted; what was wrong is kept below build/fuzz, by the
place it comes from.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.kind import Kind
from tests.fuzz.oracle import OUTCOMES, Verdict
from tests.fuzz.worker import Tried, clear, try_inputs

KEPT_INPUTS = 2
"""Of one fault at most."""
MEMORY_DISK = Path("/dev/shm")
"""Where inputs are made if it is there: trees of files come and go many times a second."""
BATCH = 400
"""Inputs of one worker at most, so that what one input leaves behind does not reach all others."""


@dataclass
class Keeper:
    """Keeps the folders of the first inputs of each fault for whoever mends it."""

    folder: Path
    kind: str
    seed: int
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def __call__(self, tried: Tried, folder: Path) -> None:
        if tried.verdict.outcome not in OUTCOMES or self.count(tried.verdict) > KEPT_INPUTS:
            return
        target = self.folder / self.kind / str(tried.number)
        clear(target)
        target.mkdir(parents=True)
        subprocess.run(
            ["cp", "-a", str(folder), str(target)], check=False, stderr=subprocess.DEVNULL
        )
        verdict = tried.verdict
        lines = (self.command(tried.number), f"{verdict.outcome}: {verdict.what}", verdict.position)
        (target / "what.txt").write_text("\n".join(lines) + "\n", errors="backslashreplace")

    def count(self, verdict: Verdict) -> int:
        self.counts[signature(verdict)] += 1
        return self.counts[signature(verdict)]

    def command(self, number: int) -> str:
        return f"python -m tests.fuzz --kind {self.kind} --seed {self.seed} --only {number}"


def signature(verdict: Verdict) -> tuple[str, str, str]:
    """What makes two findings one fault: outcome, type of the exception, place."""
    return verdict.outcome, verdict.what.partition(":")[0], verdict.position


@dataclass
class Tally:
    """The figures of one kind."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    peak_mb: float = 0.0
    seconds: float = 0.0

    def add(self, tried: Tried, command: str) -> None:
        verdict = tried.verdict
        self.counts["tried"] += 1
        self.counts[verdict.outcome] += 1
        self.peak_mb = max(self.peak_mb, tried.peak_mb)
        if verdict.outcome in OUTCOMES:
            first = {
                "kind": self.name,
                "outcome": verdict.outcome,
                "what": verdict.what,
                "where": verdict.position,
            }
            fault = self.faults.setdefault(
                signature(verdict), {**first, "times": 0, "again": command}
            )
            fault["times"] += 1

    def row(self) -> dict[str, Any]:
        """An entry of campaign.json."""
        figures = {name: self.counts[name] for name in ("tried", *OUTCOMES, "refused", "accepted")}
        return {
            "name": f"fuzz-{self.name}",
            **figures,
            "peak_mb": self.peak_mb,
            "seconds": round(self.seconds, 1),
        }


def all_kinds() -> list[type[Kind]]:
    """Every kind; the cheap ones to import first."""
    from tests.fuzz.annotations import Annotations
    from tests.fuzz.answers import Answers
    from tests.fuzz.commands import Commands
    from tests.fuzz.images import Images
    from tests.fuzz.models import Models
    from tests.fuzz.stores import Stores

    return [Images, Annotations, Answers, Stores, Models, Commands]


def campaign(
    count: int = 10_000,
    seconds: float | None = None,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
    keep: Path = Path("build/fuzz"),
) -> list[dict[str, Any]]:
    """Try `count` inputs, or as many as `seconds` allow, shared among the kinds; a row of figures
    for each kind.

    What was wrong is listed in `keep`/faults.json with a command that tries it again, and its
    inputs lie beside.
    """
    selection = [kind for kind in all_kinds() if kinds is None or kind.name in kinds]
    total = sum(kind.share for kind in selection)
    tallies = []
    keep = keep.absolute()
    for kind in selection:
        numbers = range(round(count * kind.share / total) or 1)
        limit = None if seconds is None else seconds * kind.share / total
        tallies.append(run_kind(kind, numbers, limit, seed, keep))
    faults = [fault for tally in tallies for fault in tally.faults.values()]
    keep.mkdir(parents=True, exist_ok=True)
    (keep / "faults.json").write_text(json.dumps(faults, indent=1))
    return [tally.row() for tally in tallies]


def run_kind(
    kind: type[Kind], numbers: range, limit_s: float | None, seed: int, keep: Path
) -> Tally:
    """The inputs of these numbers of one kind, or those that the time allows."""
    tally, keeper = Tally(kind.name), Keeper(keep, kind.name, seed)
    shutil.rmtree(keep / kind.name, ignore_errors=True)
    cwd, scratch = Path.cwd(), scratch_folder(kind.name)
    try:
        opened = seeded(kind, scratch / "seeds")
        start = time.monotonic()
        for tried in _tries(opened, numbers, seed, scratch, keeper):
            tally.add(tried, keeper.command(tried.number))
            if tried.verdict.outcome in OUTCOMES:
                keeper.count(tried.verdict)
            tally.seconds = time.monotonic() - start
            if limit_s is not None and tally.seconds > limit_s:
                return tally
    finally:
        os.chdir(cwd)
        clear(scratch)
    return tally


def scratch_folder(name: str) -> Path:
    """A new folder for seeds and inputs."""
    parent = MEMORY_DISK if os.access(MEMORY_DISK, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=parent))


def _tries(kind: Kind, numbers: range, seed: int, scratch: Path, keeper: Keeper) -> Iterator[Tried]:
    """Each input, in batches of one worker.

    One that hangs is tried again, by itself, and that counts: where others use the cores of this
    machine, any process may stand still for 20 s.
    """
    for start in range(0, len(numbers), BATCH):
        batch = numbers[start : start + BATCH]
        for tried in try_inputs(kind, batch, seed, scratch, keeper):
            if tried.verdict.outcome == "hangs":
                (tried,) = try_inputs(kind, [tried.number], seed, scratch, keeper)
            yield tried


def seeded(kind: type[Kind], seeds: Path) -> Kind:
    """A kind whose seeds are written (by a child, so that no library's threads live here)
    and read.
    """
    opened = kind(seeds)
    seeds.mkdir()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            opened.write_seeds()
            code = 0
        except BaseException:  # noqa: BLE001  the child must not go on as the parent
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"the seeds of {kind.name} could not be written")
    opened.open()
    return opened

"""Writers on one store, killed and stopped at random moments and started again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from kvtool.store import open_store
from kvtool.store.verify import verify
from tests.campaign.checks import check_parts, check_same, is_leftover
from tests.campaign.children import DONE, Child, Report, run_child
from tests.campaign.extraction import extract_parts, tree
from tests.campaign.tally import Tally
from tests.support.runs import config, create_run, sample

WRITERS = 4
CONFIG = config(name="small", kinds=("value",))
IMAGES = [sample(index) for index in range(48)]
CHECK_EVERY = 10
PAUSE_S = 0.008
"""Mean time between signals; WRITERS times this is what a writer lives."""


def work(path: Path, report: Report) -> None:
    """What a worker does until every part is there, whoever wrote it; SIGTERM ends it as it ends a
    command: whatever error the unwinding leads to, the signal was its end.
    """
    signals: list[int] = []

    def unwind(number: int, _: object) -> NoReturn:
        signals.append(number)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, unwind)
    try:
        run = create_run(open_store(path, create=True), CONFIG)
        report("run")
        while not extract_parts(run, report, IMAGES):
            time.sleep(0.002)
    except Exception:
        if not signals:
            raise
        sys.exit(128 + signals[0])


@dataclass
class Killer:
    """One store after the other, each written by WRITERS processes that are killed until all is
    there.
    """

    folder: Path
    rng: random.Random
    expected: dict[str, bytes]
    tally: Tally
    reported: set[str] = field(default_factory=set)
    stores: int = 0

    @property
    def path(self) -> Path:
        return self.folder / f"killed{self.stores}.kv"

    def kill(self, kills: int) -> None:
        """This many kills; the store that is then begun is finished."""
        while self.tally.tried < kills:
            writers = [self._start() for _ in range(WRITERS)]
            while writers:
                writer = writers.pop(self.rng.randrange(len(writers)))
                if self._end(writer):
                    writers.append(self._start())
            self._finish()

    def _start(self) -> Child:
        path = self.path
        return Child(lambda report: work(path, report))

    def _end(self, writer: Child) -> bool:
        """Signal a writer at a random moment and keep what it reported.

        Whether that ended it before its work did.
        """
        time.sleep(self.rng.uniform(0, 2 * PAUSE_S))
        kill_signal = self.rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP))
        os.kill(writer.pid, kill_signal)
        if kill_signal == signal.SIGSTOP:
            time.sleep(self.rng.uniform(0, 2 * PAUSE_S))
            if self.rng.random() < 0.5:
                os.kill(writer.pid, signal.SIGCONT)
                time.sleep(self.rng.uniform(0, 2 * PAUSE_S))
            os.kill(writer.pid, signal.SIGKILL)
        outcome = writer.wait()
        self.reported |= set(outcome.reports)
        what = f"store {self.stores}, kill {self.tally.tried}"
        if outcome.hung:
            self.tally.count("hangs", what)
        elif outcome.error:
            self.tally.count("tracebacks", f"{what}: {outcome.error}")
        if outcome.code == DONE:
            return False
        self.tally.tried += 1
        if self.tally.tried % CHECK_EVERY == 0:
            self._check(what)
        return True

    def _check(self, what: str) -> None:
        """What a reader sees while the writers work."""
        with self.tally.watched(what):
            store = open_store(self.path)
            if CONFIG.name in store.runs():
                check_parts(store.run(), self.reported, self.tally, what, IMAGES)
            for problem in verify(store):
                if not is_leftover(problem):
                    self.tally.count(
                        "wrong", f"{what}: {problem.part} {problem.array} {problem.what}"
                    )

    def _finish(self) -> None:
        """A writer that nobody disturbs sweeps what the others left; then the store is as an
        unbroken one.
        """
        path, what = self.path, f"store {self.stores}"
        outcome = run_child(lambda report: work(path, report))
        if outcome.code != DONE:
            self.tally.count("tracebacks", f"{what}: {outcome.error}")
        self._check(what)
        check_same(path, self.expected, self.tally, what)
        shutil.rmtree(path)
        self.reported.clear()
        self.stores += 1


def run(folder: Path, seed: int, kills: int) -> list[Tally]:
    tally = Tally("kills: four writers")
    run_child(lambda report: work(folder / "whole.kv", report))
    Killer(folder, random.Random(seed), tree(folder / "whole.kv"), tally).kill(kills)
    return [tally]

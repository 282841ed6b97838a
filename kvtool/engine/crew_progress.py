"""How far a crew is, of what each of its workers tells.

Every worker goes over all the work, and counts a piece when it did it or read what another did. So
a piece is told by as many as there are workers; by its note it is known which it is, and of each
note what one worker told the most of counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from kvtool.progress import Progress

CALLER = -1
"""The number of the caller beside those of its workers, from 0."""


@dataclass
class CrewProgress:
    """Passes on what is new in what several tell.

    Attributes:
        progress: What is called with it.
    """

    progress: Progress
    _told: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _passed: Counter[str] = field(default_factory=Counter)
    _total: int | None = None

    def caller(self, n: int, note: str = "", total: int | None = None) -> None:
        """Take what the caller tells, who goes over the work, too."""
        self.advance(CALLER, n, note, total)

    def begin(self, worker: int) -> None:
        """Forget what a worker told: it goes over all the work from its beginning."""
        self._told.pop(worker, None)

    def advance(self, worker: int, n: int, note: str, total: int | None) -> None:
        """Take what a worker tells, and pass on what no other told before."""
        # The total is passed on once: each worker counts the same work.
        if total is not None and total != self._total:
            self._total = total
            self.progress(0, note, total)
        # Only what a worker tells beyond the furthest one of this note is new.
        told = self._told[worker]
        told[note] += n
        n_new = told[note] - self._passed[note]
        if n_new > 0:
            self._passed[note] += n_new
            self.progress(n_new, note)
        elif n == 0 and total is None and worker != CALLER:
            self.progress(0, note)

"""Work that several processes share chunk by chunk: each does what nobody else holds and reads what
the others kept.

A chunk is done under a claim of its run (locks.py), and what came of it is kept in the store before
the claim ends. So the same command started twice does nothing twice, and a killed process loses no
more than the chunk in its hands.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from kvtool.errors import BusyError, StoreError, UnfinishedError
from kvtool.store.locks import POLL_S
from kvtool.store.run import Run

Chunk = TypeVar("Chunk")
Outcome = TypeVar("Outcome")
SHORTEST_POLL_S = 0.02
"""The first pause between two looks at chunks of other processes; each pause is twice as long."""


class Crew(Protocol):
    """The processes that work at a command together, as one of them sees them; see
    kvtool.engine.crew.
    """

    def work(self) -> Sequence[str] | None:
        """Let others do what lacks, before this process does it itself; return the names of the
        chunks that they did, None where nobody worked. They do so once.
        """
        ...

    def rest(self, is_idle: bool) -> None:
        """Hear that this process waits for chunks in other hands, or has one in its own."""
        ...

    def did(self, name: str) -> None:
        """Hear that this process did a chunk."""
        ...

    def end(self) -> None:
        """Hear that all chunks of a command are done. Raises UnfinishedError in a process that has
        no use for the result.
        """
        ...


class Alone:
    """The crew of a process that has none."""

    def work(self) -> Sequence[str] | None:
        """There is nobody to let work."""
        return None

    def rest(self, is_idle: bool) -> None:
        """There is nobody to tell."""

    def did(self, name: str) -> None:
        """There is nobody to tell."""

    def end(self) -> None:
        """The process is to give the result."""


_crew: ContextVar[Crew | None] = ContextVar("crew", default=None)


@contextmanager
def within(crew: Crew) -> Iterator[None]:
    """Share the work of all commands that are called meanwhile with a crew."""
    token = _crew.set(crew)
    try:
        yield
    finally:
        _crew.reset(token)


def _this_crew() -> Crew:
    return _crew.get() or Alone()


def by_crew() -> Sequence[str] | None:
    """Let the crew of this command, if there is one, do what lacks; see Crew.work."""
    return _this_crew().work()


@dataclass
class Share:
    """What one process does of the work.

    wait_s: how long it waits for chunks of others once there are no more free ones. done: names of
    the chunks that it did.
    """

    wait_s: float = 0.0
    done: list[str] = field(default_factory=list)

    @property
    def part(self) -> Share:
        """The share of a chunk's own work: it counts here, and leaves the waiting to the whole."""
        return replace(self, wait_s=0.0)

    def each(self, chunks: Iterable[Chunk], do: Callable[[Chunk], object], what: str) -> None:
        """Do all chunks, those that others hold once these are done with them.

        what: their name, in the plural.

        do: raises BusyError where another process holds the chunk, as once() does. Raises
        BusyError, naming a holder, for chunks that are held when the time is up.
        """
        todo = list(chunks)
        total = len(todo)
        deadline = None
        pause_s = SHORTEST_POLL_S
        while todo:
            # Progress is fewer chunks left or more done: a chunk of several steps may be half done.
            before = len(todo), len(self.done)
            busy_chunks = _go_over(todo, do)
            todo = [chunk for chunk, _ in busy_chunks]
            if not todo or (len(todo), len(self.done)) != before:
                pause_s = SHORTEST_POLL_S
                continue  # what was held a moment ago may be free or done by now
            # Nothing was done in this round: wait for the others, as long as was asked for.
            now = time.monotonic()
            # The time to wait begins with the first round in which nothing could be done.
            deadline = now + self.wait_s if deadline is None else deadline
            if now >= deadline:
                which = f"{len(todo)} of {total} {what} are held by others: " if total > 1 else ""
                raise BusyError(f"{which}{busy_chunks[0][1]}")
            _this_crew().rest(True)
            time.sleep(min(pause_s, deadline - now))
            # Pauses grow, since each look at a store on a network costs requests.
            pause_s = min(2 * pause_s, POLL_S)

    def once(
        self, run: Run, name: str, stored: Callable[[], Outcome | None], make: Callable[[], Outcome]
    ) -> Outcome:
        """Return what is kept of a chunk; where that is nothing, it is made, which keeps it, by one
        process at a time.

        name: of the claim, see chunk_name. Raises BusyError, at once, where another process holds
        it.
        """
        # What is kept already costs no claim.
        outcome = stored()
        # The crew works once, before this process takes a chunk itself.
        if outcome is None and (names := by_crew()) is not None:
            self.done += names
            outcome = stored()
        if outcome is not None:
            return outcome
        with _held(run, name):
            _this_crew().rest(False)
            outcome = stored()  # another process may have made it since
            if outcome is None:
                outcome = make()
                self.done.append(name)
                _this_crew().did(name)
        return outcome

    def result(
        self, run: Run, name: str, stored: Callable[[], Outcome | None], make: Callable[[], Outcome]
    ) -> Outcome:
        """As once(), for work of one chunk: it waits for another process as each() does."""
        outcomes: list[Outcome] = []
        self.each([name], lambda _: outcomes.append(self.once(run, name, stored, make)), "results")
        return outcomes[0]


@contextmanager
def sharing(wait_s: float, share: Share | None = None) -> Iterator[Share]:
    """The share of a command, or `share`, that of the command that this one is a part of.

    Where others still hold what is left, this raises UnfinishedError if the process did something,
    else BusyError.
    """
    if share is not None:
        yield share
        return
    new_share = Share(wait_s)
    try:
        yield new_share
    except BusyError as busy:
        # A process that did nothing is told who holds the work; one that did its share ends well.
        if not new_share.done:
            raise
        raise UnfinishedError(
            "this process did its share, and the same command gives the result once all is "
            f"done; {busy}"
        ) from None
    _this_crew().end()


def chunk_name(what: str, subject: str, key: str) -> str:
    """Return the name of a chunk's claim: what it is, about what, and the beginning of the key
    under which it is kept.
    """
    subject = re.sub(r"[^A-Za-z0-9.]+", "_", subject)[-80:]
    return "-".join(filter(None, (what, subject, key[:16])))


@contextmanager
def _held(run: Run, name: str) -> Iterator[None]:
    """Hold a claim. In a store that cannot be written, such as a full one, there are none."""
    with ExitStack() as stack:
        # Without a claim the work may be done twice, which is better than not at all.
        try:
            stack.enter_context(run.claim(name))
        except StoreError as error:
            logging.getLogger("kvtool").debug("%s; it is done without", error)
        yield


def _go_over(chunks: list[Chunk], do: Callable[[Chunk], object]) -> list[tuple[Chunk, BusyError]]:
    """Do the chunks that nobody holds; the others, with who holds them."""
    busy_chunks = []
    for chunk in chunks:
        try:
            do(chunk)
        except BusyError as busy:
            busy_chunks.append((chunk, busy))
    return busy_chunks

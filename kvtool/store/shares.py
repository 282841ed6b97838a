"""Work that several processes share chunk by chunk: each does what nobody else holds and reads what the others kept.

A chunk is done under a claim of its run (locks.py), and what came of it is kept in the store before the claim ends. So
the same command started twice does nothing twice, and a killed process loses no more than the chunk in its hands.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from kvtool.errors import BusyError, StoreError, UnfinishedError
from kvtool.store.locks import POLL_S
from kvtool.store.run import Run

Chunk = TypeVar("Chunk")


@dataclass
class Share:
    """What one process does of the work. wait_s: how long it waits for chunks of others once there are no more free
    ones. n_done: chunks that it did and kept."""

    wait_s: float = 0.0
    n_done: int = 0

    def each(self, chunks: Iterable[Chunk], do: Callable[[Chunk], None], what: str) -> None:
        """Do all chunks, those that others hold once these are done with them. what: their name, in the plural.

        do: reads what is kept of a chunk, or does it under take() and counts it; raises BusyError where another
        process holds it. Raises BusyError, naming a holder, for chunks that are held when the time is up.
        """
        left = list(chunks)
        total = len(left)
        deadline = None
        while left:
            before = len(left), self.n_done
            held = _go_over(left, do)
            left = [chunk for chunk, _ in held]
            if not left or (len(left), self.n_done) != before:
                continue  # what was held a moment ago may be free or done by now
            now = time.monotonic()
            deadline = now + self.wait_s if deadline is None else deadline
            if now >= deadline:
                which = f"{len(left)} of {total} {what} are held by others: " if total > 1 else ""
                raise BusyError(f"{which}{held[0][1]}")
            time.sleep(min(POLL_S, deadline - now))

    @contextmanager
    def take(self, run: Run, name: str) -> Iterator[None]:
        """Hold a chunk of this name meanwhile. Raises BusyError where another process holds it.

        In a store that cannot be written, a colleague's or a full one, there are no claims, and nothing is shared.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(run.claim(name))
            except StoreError as error:
                logging.getLogger("kvtool").debug("%s; it is done without", error)
            yield


@contextmanager
def sharing(wait_s: float, share: Share | None = None) -> Iterator[Share]:
    """The share of a command, or `share`, that of the command that this one is a part of.

    Where others still hold what is left, this raises UnfinishedError if the process did something, else BusyError.
    """
    if share is not None:
        yield share
        return
    own = Share(wait_s)
    try:
        yield own
    except BusyError as busy:
        if not own.n_done:
            raise
        raise UnfinishedError(
            f"this process did its share, and the same command gives the result once all is done; {busy}"
        ) from None


def chunk_name(what: str, about: str, key: str) -> str:
    """The name of a chunk's claim: what it is, about what, and the beginning of the key under which it is kept."""
    words = re.sub(r"[^A-Za-z0-9.]+", "_", about)[-80:]
    return f"{what}-{words}-{key[:16]}"


def _go_over(chunks: list[Chunk], do: Callable[[Chunk], None]) -> list[tuple[Chunk, BusyError]]:
    """Do the chunks that nobody holds; the others, with who holds them."""
    held = []
    for chunk in chunks:
        try:
            do(chunk)
        except BusyError as busy:
            held.append((chunk, busy))
    return held

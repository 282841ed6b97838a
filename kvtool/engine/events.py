"""What a worker tells as it goes, and the progress made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.filesize import decimal

from kvtool.progress import Progress
from kvtool.store.nonfinite import StoredBlock


@dataclass(frozen=True)
class Event:
    """What a worker tells as it goes: `done` and `failed` images, `busy` parts of others, `bytes`
    written, images whose features are `reused` from another run, blocks that hold `nonfinite`
    values, each once, a `batch` of so many images that ran, and how batches grow (`growth`).
    """

    what: str
    n: int = 0
    index: int = -1
    id: str = ""
    message: str = ""
    blocks: tuple[StoredBlock, ...] = ()


Tell = Callable[[Event], None]


def told(progress: Progress, tell: Tell | None = None) -> Tell:
    """Return what tells of images that are done or failed, of the bytes written so far, and of the
    largest batch.
    """
    n_bytes = batch_size = 0

    def pass_on(event: Event) -> None:
        """Count an event."""
        nonlocal n_bytes, batch_size
        n_bytes += event.n if event.what == "bytes" else 0
        batch_size = max(batch_size, event.n if event.what == "batch" else 0)
        if event.what in ("done", "failed", "bytes"):
            n_ended = event.n if event.what != "bytes" else 0
            batches = f", batches of up to {batch_size}" if batch_size else ""
            progress(n_ended, f"{decimal(n_bytes)} written{batches}")
        if tell is not None:
            tell(event)

    return pass_on

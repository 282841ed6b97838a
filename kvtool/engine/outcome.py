"""What an extraction will take, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.filesize import decimal

from kvtool.display import Displayed, Facts, listing
from kvtool.engine.events import Event
from kvtool.store.nonfinite import StoredBlock


@dataclass(frozen=True)
class Failure:
    """An image that could not be extracted, and why."""

    id: str
    reason: str


@dataclass(repr=False)
class Report(Displayed):
    """What an extraction came to.

    n_done, n_bytes: of this call's processes; n_by_others: stored by others meanwhile; n_reused:
    those of which features before the decoder came from the run `source`. `failed`: by dataset
    index; `busy`: who holds the parts that others are at; `left_out`: a line for each picture that
    the data set could not even list, see DatasetBase.unread; `nonfinite`: how many stored values
    are NaN or infinite, see Run.nonfinite; `batch_size`: images of the largest batch, and
    `n_batches` how many ran, which are no part of what a run is.
    """

    run: str
    n_images: int
    n_before: int = 0
    n_done: int = 0
    n_by_others: int = 0
    n_bytes: int = 0
    n_reused: int = 0
    batch_size: int = 0
    n_batches: int = 0
    source: str | None = None
    seconds: float = 0.0
    failed: dict[int, Failure] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    nonfinite: dict[StoredBlock, int] = field(default_factory=dict)

    @property
    def n_missing(self) -> int:
        """Images neither stored nor failed: parts that other processes still hold."""
        return self.n_images - self.n_before - self.n_done - self.n_by_others - len(self.failed)

    def _title(self) -> str:
        return f"Extraction of run {self.run}"

    def _facts(self) -> Facts:
        failures = [f"{failure.id} ({failure.reason})" for failure in self.failed.values()]
        return {
            "images": f"{self.n_images}, {self.n_before} of them there before",
            "done": f"{self.n_done} ({decimal(self.n_bytes)}) in {self.seconds:.1f} s",
            "by others": self.n_by_others or None,
            "reused": f"{self.n_reused} from run {self.source}" if self.n_reused else None,
            "batches": f"{self.n_batches} of up to {self.batch_size} images"
            if self.n_batches
            else None,
            "failed": f"{len(failures)}: {listing(failures)}" if failures else None,
            "left out": f"{len(self.left_out)}: {listing(self.left_out)}"
            if self.left_out
            else None,
            "missing": self.n_missing or None,
            "busy": listing(self.busy) if self.busy else None,
            "not finite": f"{sum(self.nonfinite.values())} values" if self.nonfinite else None,
        }

    def hear(self, event: Event) -> None:
        """Count what an event of a worker tells."""
        if event.what == "done":
            self.n_done += event.n
        elif event.what == "bytes":
            self.n_bytes += event.n
        elif event.what == "reused":
            self.n_reused += event.n
        elif event.what == "batch":
            self.n_batches += 1
            self.batch_size = max(self.batch_size, event.n)
        elif event.what == "failed":
            self.failed[event.index] = Failure(event.id, event.message)
        elif event.what == "busy":
            self.busy.append(event.message)


@dataclass(frozen=True)
class SizeEstimate:
    """What `--dry-run` prints.

    Bytes are before compression; `n_probed` images were measured for it. `source`: the run that
    features before the decoder would come from.
    """

    run: str
    n_images: int
    n_before: int
    n_todo: int
    image_bytes: int
    todo_bytes: int
    expected_bytes: int
    free_bytes: int | None
    n_probed: int
    source: str | None

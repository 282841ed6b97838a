"""Whether an annotation can be used for the picture that a run holds: readable, of its size, the
same way up.

Annotations are read once before anything is scored, so that one that cannot be used is left out of
every block alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from kvtool.errors import DatasetError, KvtoolError
from kvtool.store import Run
from kvtool.types import VIDEO

Array = np.ndarray[Any, Any]
Size = tuple[int, int]
"""(width, height) in pixels."""

Sizes = Mapping[str, Size]
"""The pictures that a run holds: image id -> size, upright."""

Unit = TypeVar("Unit")
READ_THREADS = 4


def sizes_of(run: Run, ids: Iterable[str] | None = None) -> dict[str, Size]:
    """The pictures that a run holds, or those of them that are among `ids`: frames of videos by
    their own ids or their video's.
    """
    if ids is None:
        return {view.id: view.image_wh_px for view in run.views}
    id_set = set(ids)
    for sample in run.samples if run.config.view == VIDEO else ():
        if sample.id in id_set:
            id_set.update(frame.id for frame in sample.frames)
    return {view.id: view.image_wh_px for view in run.views if view.id in id_set}


def check_size(annotation_wh_px: Size, picture_wh_px: Size, location: str) -> None:
    """Raises DatasetError where an annotation is not of its picture's size, or lies on its side."""
    if annotation_wh_px == picture_wh_px:
        return
    # Sides swapped: the annotation was made of the picture as stored, before its orientation.
    (width, height), (picture_width, picture_height) = annotation_wh_px, picture_wh_px
    turned = (width, height) == (picture_height, picture_width)
    cause = "it is turned, as by the picture's EXIF orientation; " if turned else ""
    raise DatasetError(
        f"{location}: the annotation says {width} x {height} pixels, the picture has "
        f"{picture_width} x {picture_height}: {cause}take both from the same release"
    )


def check_shape(truth: Array, picture_wh_px: Size, location: str) -> None:
    """The same for a mask (height, width, ...)."""
    check_size((truth.shape[1], truth.shape[0]), picture_wh_px, location)


@dataclass
class LeftOut:
    """What a task leaves out: `lines` to be read by the user, those on many units first; `count`
    units in all, of which `unusable` have an annotation or a picture that cannot be used. The
    others are not in the run, which is no fault of them.
    """

    lines: list[str] = field(default_factory=list)
    count: int = 0
    unusable: int = 0

    @classmethod
    def of(cls, dataset: Any) -> LeftOut:
        """What a data set left out as it was read."""
        n_skipped = len(dataset.skipped)
        return cls([*dataset.notes, *dataset.skipped], n_skipped, n_skipped)

    def many(self, count: int, line: str) -> None:
        """Units that the run does not hold, or not enough of, in one line."""
        if count:
            self.lines.insert(0, f"{count} {line}")
            self.count += count

    def absent(self, line: str) -> None:
        """A unit of which something is not there to be used: nothing is wrong with it."""
        self.lines.append(line)
        self.count += 1

    def bad(self, line: str) -> None:
        """A unit whose annotation or picture cannot be used."""
        self.absent(line)
        self.unusable += 1

    def usable(
        self, units: Sequence[Unit], check: Callable[[Unit], None], limit: int | None = None
    ) -> list[Unit]:
        """The first `limit` units that pass a check; those before that fail it are left out, each
        with its reason.

        check: raises DatasetError for a unit that cannot be used. Several units are checked at
        once.
        """
        passed: list[Unit] = []
        start = 0
        while start < len(units) and (limit is None or len(passed) < limit):
            # With a limit no more annotations are read than are lacking, but for the threads' sake.
            step = len(units) if limit is None else max(limit - len(passed), READ_THREADS)
            batch = units[start : start + step]
            start += step
            # Results keep the order of the units, so that a limit takes the same ones each time.
            for unit, reason in zip(batch, _reasons(batch, check), strict=True):
                if limit is not None and len(passed) >= limit:
                    return passed
                if reason is None:
                    passed.append(unit)
                else:
                    self.bad(reason)
        return passed

    def none_left(self, task: str, reason: str) -> KvtoolError:
        """What to raise where nothing is left to be scored, with the first reason where there is
        one.
        """
        first = f"; first problem: {self.lines[0]}" if self.lines else ""
        return KvtoolError(f"{task}: {reason}{first}")


def _reasons(units: Sequence[Unit], check: Callable[[Unit], None]) -> list[str | None]:
    """Why each unit cannot be used; None for one that can."""

    def reason(unit: Unit) -> str | None:
        try:
            check(unit)
        except DatasetError as error:
            return str(error)
        return None

    # Reading annotations waits for the disk mostly: threads share the wait.
    if len(units) < 2:
        return [reason(unit) for unit in units]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        return list(pool.map(reason, units))

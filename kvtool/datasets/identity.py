"""Whether a data set's pictures are those that a run holds: by what the pictures are, not by their
names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvtool.datasets import Spec, open_dataset
from kvtool.datasets.clips import digest_refs, refs_of
from kvtool.datasets.folder import ListedPictures
from kvtool.datasets.images import picture_file
from kvtool.digests import quick_look
from kvtool.errors import DatasetError, KvtoolError, UsageError
from kvtool.store import Run
from kvtool.store.manifest import FOLDER

if TYPE_CHECKING:
    from kvtool.datasets.base import DatasetBase, ImageRef
    from kvtool.store.parts import Picture

LISTED = 5
"""How many images a message names; all are counted."""


@dataclass(frozen=True)
class Difference:
    """How a data set differs from what a run holds of it.

    changed: ids whose picture, or whose text before it, is another one now. vanished: ids that the
    data set does not have any more, or whose picture cannot be read.
    """

    changed: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.vanished)

    def __str__(self) -> str:
        parts = []
        if self.changed:
            parts.append(f"{count(self.changed, 'picture')} changed ({listed(self.changed)})")
        if self.vanished:
            parts.append(f"{count(self.vanished, 'picture')} vanished ({listed(self.vanished)})")
        return " and ".join(parts)


def compare(
    pictures: Sequence[Picture],
    refs: Iterable[ImageRef],
    texts: Mapping[str, str | None] | None = None,
) -> Difference:
    """Return how the pictures of a data set differ from those that a run holds.

    A picture whose file has the stamp that it had is taken for unchanged; others are hashed (once,
    see kvtool.digests). texts: the text that is to stand before each image, where it comes from the
    data set.
    """
    now = {ref.id: ref for ref in refs}
    vanished = [picture.id for picture in pictures if picture.id not in now]
    present = [picture for picture in pictures if picture.id in now and picture.digest]
    # The stamp of the file, as it was when it was read, spares a look into it.
    looks = _quick_looks(now[picture.id] for picture in present)
    doubtful = [picture for picture in present if not _is_untouched(picture, looks.get(picture.id))]
    # Only what the stamp does not clear is read and hashed.
    digests = digest_refs([now[picture.id] for picture in doubtful])
    changed = [p.id for p in doubtful if digests[p.id] and digests[p.id] != p.digest]
    # A picture that cannot be read now is gone for the run, not changed.
    vanished += [p.id for p in doubtful if not digests[p.id]]
    # The same picture after another text has other keys and values.
    if texts is not None:
        differing = set(changed) | set(vanished)
        changed += [p.id for p in pictures if p.id not in differing and p.prefix != texts.get(p.id)]
    return Difference(tuple(changed), tuple(vanished))


def _quick_looks(refs: Iterable[ImageRef]) -> dict[str, tuple[int, ...]]:
    """Stamp of each picture's file by image id; files that hold many pictures are looked at
    once.
    """
    stamps: dict[Path, tuple[int, ...]] = {}
    looks = {}
    for ref in refs:
        path = picture_file(ref)
        if path is None:
            continue
        # Many pictures may lie in one file, whose stamp stands for all of them.
        if path not in stamps:
            stamps[path] = quick_look(path) or ()
        looks[ref.id] = stamps[path]
    return looks


def _is_untouched(picture: Picture, look: tuple[int, ...] | None) -> bool:
    return bool(picture.stamp) and look == picture.stamp


def count(ids: Collection[str], noun: str) -> str:
    """'1 picture', '3 pictures'."""
    return f"{len(ids)} {noun}{'s' * (len(ids) != 1)}"


def listed(ids: Sequence[str]) -> str:
    """Return the first few ids, and how many there are besides."""
    text = ", ".join(ids[:LISTED])
    return f"{text} and {len(ids) - LISTED} more" if len(ids) > LISTED else text


def dataset_of(run: Run, data: str | Path | None = None) -> DatasetBase:
    """Return a run's data set, from `data` or from where it was last extracted.

    Raises KvtoolError where it is not there, and where its pictures are others than the run's;
    pictures that are gone are none of the run's concern here.
    """
    path = run.place if data is None else str(data)
    if path is None:
        raise UsageError(
            f"run {run.name}: expected the place of its pictures, found none, as it was extracted "
            "from a list or from "
            f"pictures in memory; give the folder of {run.config.dataset} with --data"
        )
    try:
        if (
            run.config.dataset == FOLDER and run.place is None
        ):  # a list, whose pictures lie there now
            dataset: DatasetBase = ListedPictures(Path(path), run.ids)
        else:
            dataset = open_dataset(Spec(run.config.dataset, path, run.config.split or None))
        check_pictures(run, dataset)
    except KvtoolError as error:
        hint = "" if data is not None else "; if it moved, give the folder with --data"
        raise type(error)(f"{error}{hint}") from None
    return dataset


def check_pictures(run: Run, dataset: DatasetBase) -> None:
    """Raises DatasetError where pictures of the data set are others than those that the run
    holds.
    """
    difference = compare(run.pictures, refs_of(dataset, run.config.view))
    if difference.changed:
        raise DatasetError(
            f"{dataset.name} {dataset.root}: expected the pictures that run {run.name} holds, "
            "found other ones: "
            f"{count(difference.changed, 'picture')} changed ({listed(difference.changed)}); "
            "extract with --changed replace, or give the folder of those with --data"
        )

"""What every data set provides to extract: its images in a fixed order, its texts, and the prefixes
it can offer.

Ground truth for a task is each data set's own business: see its file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from kvtool.datasets.listing import absent_files
from kvtool.datasets.prefixes import PREFIX_CONDITIONS, RANDOM_PREFIX, another
from kvtool.datasets.records import QUESTIONS, SERVICES, About, ImageRef, Question
from kvtool.datasets.values import first_few
from kvtool.digests import digest_files, digest_texts
from kvtool.errors import DatasetError, UsageError

__all__ = [
    "PREFIX_CONDITIONS",
    "QUESTIONS",
    "About",
    "Dataset",
    "DatasetBase",
    "ImageRef",
    "Progress",
    "Question",
    "another",
]

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
Progress = Callable[[int, int], None]
"""Called with (done, total) while many small files are read."""


@runtime_checkable
class Dataset(Protocol):
    """A data set of one split. `tasks` names what `kvtool probe` can do with a run over it."""

    name: str
    split: str
    root: Path | None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the data set can serve, as far as its files allow."""
        ...

    def images(self) -> Sequence[ImageRef]:
        """Return all pictures of the split, each once, in a fixed order; ids are unique."""
        ...

    def present(self) -> Sequence[ImageRef]:
        """Return those of the pictures whose files are there."""
        ...

    def left_out(self, limit: int) -> list[str]:
        """Return lines about what was left out so far, of many the first `limit`."""
        ...

    def texts(self) -> Sequence[str]:
        """Return class names or expressions whose vectors `extract` stores beside the images; may
        be empty.
        """
        ...

    def truth_files(self) -> Sequence[Path]:
        """Return every file but pictures that the split is read from, in a fixed order, there or
        not.
        """
        ...

    def truth_digest(self) -> str:
        """32 hex digits of the truth files' places below the root and their contents."""
        ...

    def prefix(self, image_id: str, condition: str) -> str:
        """Return text to put before an image under a condition of PREFIX_CONDITIONS.

        Raises UsageError naming the conditions that this data set offers.
        """
        ...


class DatasetBase:
    """Shared part of the loaders.

    A subclass sets `about`, and defines `images`, its truth and its prefixes.

    skipped: one line for each annotation that had to be left out; filled while annotations are
    read. unread: one line for each picture that is there, but that no run can hold: of a format
    that is not read, of a name that is not UTF-8, in a row that cannot be used. notes: lines that a
    user should see, but that count nothing as left out: pictures that are not there, lines listed
    twice.
    """

    about: ClassVar[About]

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        self.name = self.about.name
        self.root = root
        self.skipped: list[str] = []
        self.unread: list[str] = []
        self.notes: list[str] = []
        if split is not None and split not in self.about.splits:
            splits = ", ".join(self.about.splits)
            raise UsageError(f"{self.name}: unknown split {split!r}; known: {splits}")
        self.split = split or self.default_split()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the data set can serve, as far as its files allow."""
        return self.about.tasks

    @property
    def conditions(self) -> tuple[str, ...]:
        """The prefixes of PREFIX_CONDITIONS that the data set offers, as far as its files allow."""
        return self.about.conditions

    def lacks(self, service: str) -> str:
        """Return what is missing for a task or one of SERVICES, in a few words; "" for nothing."""
        if service in self.tasks or (service in SERVICES and hasattr(self, service)):
            return ""
        return f"{self.name} has no {'' if service in SERVICES else 'annotations for '}{service}"

    @property
    def folder(self) -> Path:
        """The root, where there must be one.

        Raises DatasetError when it is missing, no folder or closed to us.
        """
        if self.root is None:
            raise UsageError(f"{self.name}: expected a path, found none; write {self.name}:PATH")
        # A folder must be listed to be known as one that can be read.
        try:
            next(self.root.iterdir(), None)
        except FileNotFoundError:
            problem = "found nothing there; check the path"
        except NotADirectoryError:
            archive = self.root.suffix.lower() in ARCHIVES
            problem = (
                "found an archive; unpack it first"
                if archive
                else "found a file; give the folder that holds it"
            )
        except OSError as error:
            problem = f"found that it cannot be read: {error.strerror}"
        else:
            return self.root
        raise DatasetError(f"{self.name}: {self.root}: expected a folder, {problem}")

    def default_split(self) -> str:
        """Return the split that counts where none is named."""
        return self.about.splits[0]

    def images(self) -> Sequence[ImageRef]:
        """Return all pictures of the split, each once, in a fixed order."""
        raise NotImplementedError

    def present(self) -> list[ImageRef]:
        """Return those of the pictures whose files are there, told by the names in their folders,
        not by a look at each.

        The others are counted and named in `notes`. Raises DatasetError where none is there.
        """
        images = self.images()
        self.note_unpictured(self.unpictured())
        # A list of paths has no data set's folder: what it names and is not there has failed.
        on_disk = (
            [ref.path for ref in images if ref.path is not None] if self.root is not None else []
        )
        absent = absent_files(on_disk)
        if not absent:
            return list(images)
        pictures = [ref for ref in images if ref.path not in absent]
        first = next(ref.path for ref in images if ref.path in absent)
        if not pictures:
            raise DatasetError(
                f"{self.name}: expected {len(images)} pictures, found none of them; the first "
                f"should be {first}"
            )
        names = first_few([ref.id for ref in images if ref.path in absent])
        self.note(
            f"{self.name}: {len(absent)} of {len(images)} pictures are not there: {names} (at "
            f"{first})"
        )
        return pictures

    def unpictured(self) -> Sequence[str]:
        """Return the names of pictures that `images` cannot list, for they are not there, but their
        annotations are; here none.
        """
        return ()

    def left_out(self, limit: int) -> list[str]:
        """Return what was noted and left out so far, a line each; of many the first `limit`, and
        how many more there are.
        """
        # A line may be noted by several readers of one file, and is told once.
        lines = list(dict.fromkeys([*self.notes, *self.unread, *self.skipped]))
        overflow = (
            [f"{self.name}: {len(lines) - limit} more pictures or annotations were left out"]
            if len(lines) > limit
            else []
        )
        return lines[:limit] + overflow

    def note(self, line: str) -> None:
        """Have a line said once, however often it is met."""
        if line not in self.notes:
            self.notes.append(line)

    def note_unpictured(self, names: Sequence[str]) -> None:
        """Count and name the pictures that `images` cannot list, though annotations name them."""
        if names:
            self.note(
                f"{self.name}: {len(names)} of {len(self.images()) + len(names)} pictures are not "
                f"there, only their annotations: {first_few(names)}"
            )

    def note_repeated(self, path: Path, lines: Sequence[str]) -> None:
        """Say which lines of a list stand there more than once, since each counts once."""
        repeated = [line for line, count in Counter(lines).items() if count > 1]
        if repeated:
            self.note(
                f"{path}: {len(repeated)} of its lines are listed twice and count once: "
                f"{first_few(repeated)}"
            )

    def texts(self) -> Sequence[str]:
        """Return the texts whose vectors are stored beside the images; here none."""
        return ()

    def truth_files(self) -> Sequence[Path]:
        """Return every file that the split's truth, questions, texts and prefixes are read from, in
        a fixed order.

        That is everything the loader reads but pictures: lists, masks, JSON, pickles, tables. A
        file that is not there is named too where the loader would read it.
        """
        raise NotImplementedError

    def truth_digest(self) -> str:
        """32 hex digits of the truth files' places below the root and their contents.

        Files that did not change since they were last digested are not opened. Raises DatasetError
        where a list of the files cannot be read.
        """
        return digest_texts(self._truth_parts())

    def _truth_parts(self) -> Iterator[str]:
        """Place and digest of each truth file in turn; "missing" for one that cannot be read."""
        root = os.path.join(self.root or "", "")  # noqa: PTH118  with a separator at its end
        for path, digest in digest_files(self.truth_files()).items():
            name = str(path)
            # Most lie below the root, and cutting it off is ten times quicker than asking for a
            # relative path.
            yield (
                name.removeprefix(root) if name.startswith(root) else os.path.relpath(name, root)
            )
            yield digest or "missing"

    def prefix(self, image_id: str, condition: str) -> str:
        """Return text before an image: nothing, the paper's random sentence, or the data set's own
        sentence.
        """
        if condition not in self.conditions:
            offered = ", ".join(self.conditions)
            raise UsageError(
                f"{self.name}: no prefix condition {condition!r}; it offers: {offered}"
            )
        if condition == "none":
            return ""
        if condition == "random":
            return RANDOM_PREFIX
        return (
            self.correct_prefix(image_id)
            if condition == "correct"
            else self.incorrect_prefix(image_id)
        )

    def correct_prefix(self, image_id: str) -> str:
        """Return a sentence that is true of an image; see `conditions`."""
        raise NotImplementedError

    def incorrect_prefix(self, image_id: str) -> str:
        """Return a sentence that is wrong of an image; see `conditions`."""
        raise NotImplementedError

    def unknown_image(self, image_id: str) -> UsageError:
        """Return the error about an id that the split does not have."""
        return UsageError(f"{self.name}: no image {image_id!r} in split {self.split!r}")

"""MME: two yes-or-no questions an image, in subsets (protocol 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kvtool.datasets.base import About, DatasetBase, ImageRef, Question
from kvtool.datasets.files import by_stem, read_lines
from kvtool.datasets.names import brief, is_hidden
from kvtool.errors import DatasetError

PAPER_SUBSETS = ("existence", "count", "position", "color")


@dataclass(frozen=True)
class _Texts:
    subset: str
    texts: Path
    image: Path


class Mme(DatasetBase):
    """Images of the subsets.

    Ids are `<subset>/<name>`. Split `paper` is the four subsets of the paper's table 3.
    """

    about = About(
        name="mme",
        title="MME, perception questions in subsets",
        tasks=(),
        splits=("paper", "all"),
        layout=(
            "<subset>/<image>.txt  two lines: question TAB Yes or No",
            "<subset>/<image>.jpg  the image beside its text",
            "<subset>/questions_answers_YN/<image>.txt  or the texts here",
            "<subset>/images/<image>.jpg  and the images here",
        ),
        source="MME (Fu et al. 2023), benchmark release",
        licence="for academic research; some images under their own terms",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        folders = sorted(p for p in self.folder.iterdir() if p.is_dir() and not is_hidden(p.name))
        # A folder counts only with texts: releases have others beside them.
        subsets = [p for p in folders if self.split == "all" or p.name in PAPER_SUBSETS]
        self._subsets = [p for p in subsets if any(_texts(p).glob("*.txt"))]
        if not self._subsets:
            names = "/, ".join(PAPER_SUBSETS if self.split == "paper" else ("<subset>",))
            listed = ", ".join(p.name + "/" for p in folders[:4]) or "no folder"
            raise DatasetError(
                f"{self.name}: {self.folder}: expected folders {names}/ with <image>.txt files, "
                f"found {listed}; "
                "see the folder tree in docs/datasets.md"
            )

    @cached_property
    def _items(self) -> list[_Texts]:
        items = []
        for folder in self._subsets:
            # Releases differ in whether pictures and texts have folders of their own.
            pictures = by_stem(
                folder / "images" if (folder / "images").is_dir() else folder, self.unread
            )
            for texts in sorted(
                path for path in _texts(folder).glob("*.txt") if not is_hidden(path.name)
            ):
                if texts.stem in pictures:
                    items.append(_Texts(folder.name, texts, pictures[texts.stem]))
                else:
                    self.skipped.append(f"{texts}: no image of this name")
        if not items:
            raise DatasetError(
                f"{self.folder}: expected an image beside each text, found none; see "
                "docs/datasets.md"
            )
        return items

    def images(self) -> Sequence[ImageRef]:
        """Return the pictures of the subsets, each once."""
        return [ImageRef(f"{item.subset}/{item.texts.stem}", item.image) for item in self._items]

    def truth_files(self) -> Sequence[Path]:
        """Return the texts of the subsets."""
        return [path for folder in self._subsets for path in sorted(_texts(folder).glob("*.txt"))]

    def questions(self) -> list[Question]:
        """Two an image, subset by subset; `group` is the subset.

        Texts without two questions are in `skipped`.
        """
        return self._questions

    @cached_property
    def _questions(self) -> list[Question]:
        questions: list[Question] = []
        for item in self._items:
            try:
                questions += _pair(item)
            except DatasetError as error:
                self.skipped.append(str(error))
        if not questions:
            raise DatasetError(
                f"{self.folder}: expected questions, found none that can be used; {self.skipped[0]}"
            )
        return questions


def _pair(item: _Texts) -> list[Question]:
    """Return the two questions about an image. Raises DatasetError."""
    lines = read_lines(item.texts)
    if len(lines) != 2:
        raise DatasetError(f"{item.texts}: expected two questions, found {len(lines)}")
    image_id = f"{item.subset}/{item.texts.stem}"
    questions = []
    for number, line in enumerate(lines):
        # The last tab splits, since a question may hold one.
        text, _, answer = (part.strip() for part in line.rpartition("\t"))
        if answer.lower() not in ("yes", "no") or not text:
            raise DatasetError(
                f"{item.texts}: line {number + 1}: expected question TAB Yes or No, found "
                f"{brief(line)}"
            )
        questions.append(
            Question(f"{image_id}/{number}", (image_id,), text, text, answer, item.subset)
        )
    return questions


def _texts(subset: Path) -> Path:
    """Return where a subset keeps its texts."""
    inner = subset / "questions_answers_YN"
    return inner if inner.is_dir() else subset

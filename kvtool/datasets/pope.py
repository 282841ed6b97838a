"""POPE: is a thing there, yes or no, on images of COCO val2014 (protocol 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool.datasets.base import About, DatasetBase, ImageRef, Question
from kvtool.datasets.files import require_any
from kvtool.datasets.json_files import fields, name_of, read_json_lines, text_of
from kvtool.datasets.names import brief
from kvtool.errors import DatasetError

FILES = ("random", "popular", "adversarial")
_IMAGES = ("val2014/", "../coco/val2014/", "coco/val2014/")


@dataclass(frozen=True)
class _Line:
    """One question; `image` is a file's name, `location` where it stands, for errors."""

    group: str
    id: str
    image: str
    text: str
    label: str
    location: str


class Pope(DatasetBase):
    """The images that the three files ask about, by first mention.

    Ids are COCO's file names without suffix.
    """

    about = About(
        name="pope",
        title="POPE, object hallucination questions on COCO",
        tasks=(),
        splits=("test",),
        layout=(
            "coco_pope_{random,popular,adversarial}.json  JSON lines: question_id, image, text, "
            "label",
            "val2014/*.jpg  COCO's images, here or in ../coco/val2014 or coco/val2014",
        ),
        source="POPE (Li et al. 2023), its COCO question files; images of COCO 2014 val",
        licence="questions under their repository's terms; images under Flickr's terms",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        names = [f"coco_pope_{name}.json" for name in FILES]
        require_any(self.folder, names, "a question file", self.name)
        paths = {group: self.folder / name for group, name in zip(FILES, names, strict=True)}
        self._files = {group: path for group, path in paths.items() if path.is_file()}

    @cached_property
    def _items(self) -> list[_Line]:
        """Every question that can be used; the others are named in `skipped`."""
        items: list[_Line] = []
        names: dict[str, str] = {}
        for group, path in self._files.items():
            # Question ids begin anew in each of the three files.
            seen: set[str] = set()
            for number, record in enumerate(read_json_lines(path), 1):
                try:
                    item = _item(group, record, f"{path}: question {number}")
                    _check_first(item, seen, names)
                except DatasetError as error:
                    self.skipped.append(str(error))
                    continue
                items.append(item)
        if not items:
            raise DatasetError(
                f"{self.folder}: expected questions, found none that can be used; {self.skipped[0]}"
            )
        return items

    def images(self) -> Sequence[ImageRef]:
        """Return the pictures of the questions, each once."""
        folder = require_any(self.folder, _IMAGES, "COCO's images", self.name)
        names = dict.fromkeys(item.image for item in self._items)
        return [ImageRef(Path(name).stem, folder / name) for name in names]

    def truth_files(self) -> Sequence[Path]:
        """Return the three question files."""
        return [self.folder / f"coco_pope_{name}.json" for name in FILES]

    def questions(self) -> list[Question]:
        """In the order of the files random, popular, adversarial; `group` is the file."""
        return [
            Question(
                id=f"{item.group}/{item.id}",
                image_ids=(Path(item.image).stem,),
                text=item.text,
                prompt=item.text,
                answer=item.label,
                group=item.group,
            )
            for item in self._items
        ]


def _item(group: str, record: dict[str, Any], location: str) -> _Line:
    """Return a question with its fields checked. Raises DatasetError."""
    number, image, text, label = fields(record, ("question_id", "image", "text", "label"), location)
    if not isinstance(number, int | str) or isinstance(number, bool):
        raise DatasetError(f"{location}: expected question_id as a number, found {brief(number)}")
    if label not in ("yes", "no"):
        raise DatasetError(
            f"{location}: expected label yes or no, found {brief(label)}; download the file again"
        )
    text = text_of(text, "text", location)
    return _Line(
        group,
        text_of(str(number), "question_id", location),
        name_of(image, "image", location),
        text,
        label,
        location,
    )


def _check_first(item: _Line, seen: set[str], names: dict[str, str]) -> None:
    """Raises DatasetError for a question that the file has already, and for another picture of a
    known id.

    seen: the question ids of the file so far; names: file name of each image id. Both are brought
    up to date.
    """
    if item.id in seen:
        raise DatasetError(
            f"{item.location}: expected each question_id once, found {brief(item.id)} again"
        )
    # Ids drop the suffix: two files of one stem would be one picture.
    first_image = names.setdefault(Path(item.image).stem, item.image)
    if first_image != item.image:
        raise DatasetError(
            f"{item.location}: expected one picture of a name, found {item.image} beside "
            f"{first_image}"
        )
    seen.add(item.id)

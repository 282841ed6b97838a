"""POPE: is a thing there, yes or no, on images of COCO val2014 (protocol 7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool.datasets.base import About, DatasetBase, ImageRef, Question
from kvtool.datasets.files import fields, read_json_lines, require_any
from kvtool.errors import DatasetError

FILES = ("random", "popular", "adversarial")
_IMAGES = ("val2014/", "../coco/val2014/", "coco/val2014/")


class Pope(DatasetBase):
    """The images that the three files ask about, by first mention. Ids are COCO's file names without suffix."""

    about = About(
        name="pope",
        title="POPE, object hallucination questions on COCO",
        tasks=(),
        splits=("test",),
        layout=(
            "coco_pope_{random,popular,adversarial}.json  JSON lines: question_id, image, text, label",
            "val2014/*.jpg  COCO's images, here or in ../coco/val2014 or coco/val2014",
        ),
        source="POPE (Li et al. 2023), its COCO question files; images of COCO 2014 val",
        licence="questions under their repository's terms; images under Flickr's terms",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        names = [f"coco_pope_{name}.json" for name in FILES]
        require_any(self.folder, names, "a question file", self.name)
        self._files = {
            n: self.folder / f"coco_pope_{n}.json" for n in FILES if (self.folder / f"coco_pope_{n}.json").is_file()
        }

    @cached_property
    def _records(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(file, where, record) of every question, checked."""
        records = []
        for group, path in self._files.items():
            for number, record in enumerate(read_json_lines(path), 1):
                where = f"{path}: question {number}"
                *_, label = fields(record, ("question_id", "image", "text", "label"), where)
                if label not in ("yes", "no"):
                    raise DatasetError(f"{where}: expected label yes or no, found {label!r}; download the file again")
                records.append((group, where, record))
        return records

    def images(self) -> Sequence[ImageRef]:
        folder = require_any(self.folder, _IMAGES, "COCO's images", self.name)
        names = dict.fromkeys(str(record["image"]) for _, _, record in self._records)
        return [ImageRef(Path(name).stem, folder / name) for name in names]

    def truth_files(self) -> Sequence[Path]:
        """The three question files."""
        return [self.folder / f"coco_pope_{name}.json" for name in FILES]

    def questions(self) -> list[Question]:
        """In the order of the files random, popular, adversarial; `group` is the file."""
        return [
            Question(
                id=f"{group}/{record['question_id']}",
                image_ids=(Path(record["image"]).stem,),
                text=record["text"],
                prompt=record["text"],
                answer=record["label"],
                group=group,
            )
            for group, _, record in self._records
        ]

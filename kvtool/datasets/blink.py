"""BLINK: multiple-choice perception questions on one to four images, from parquet (protocol 7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from kvtool.datasets.base import About, DatasetBase, ImageRef, Question
from kvtool.datasets.files import found
from kvtool.datasets.parquet import ParquetTable, check_unique
from kvtool.errors import DatasetError

_COLUMNS = ("idx", "question", "sub_task", "prompt", "answer", "choices")
_IMAGES = ("image_1", "image_2", "image_3", "image_4")


class Blink(DatasetBase):
    """The images of every sub-task found. Ids are `<idx>/image_<n>`, e.g. val_Art_Style_1/image_2.

    The root may be one sub-task's folder. Answers of `test` are not public: its questions have answer "".
    """

    about = About(
        name="blink",
        title="BLINK, multiple-choice visual perception",
        tasks=(),
        splits=("val", "test"),
        layout=("<Sub_Task>/{val,test}-*.parquet  idx, question, sub_task, prompt, answer, choices, image_1..4",),
        source="BLINK (Fu et al. 2024), the parquet files of BLINK-Benchmark/BLINK",
        licence="Apache-2.0; images under their sources' terms",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        pattern = f"{self.split}-*.parquet"
        self._files = sorted([*self.folder.glob(pattern), *self.folder.glob(f"*/{pattern}")])
        if not self._files:
            raise DatasetError(
                f"{self.name}: {self.folder}: expected parquet files at <Sub_Task>/{pattern}, "
                f"found {found(self.folder / pattern, self.folder)}; see docs/datasets.md"
            )

    @cached_property
    def _tables(self) -> list[ParquetTable]:
        tables = [ParquetTable(path, _COLUMNS, _IMAGES) for path in self._files]
        check_unique([str(row["idx"]) for table in tables for row in table.rows], str(self.folder))
        return tables

    @cached_property
    def _images(self) -> list[ImageRef]:
        return [ref for t in self._tables for i, row in enumerate(t.rows) for ref in t.images(i, str(row["idx"]))]

    def images(self) -> Sequence[ImageRef]:
        return self._images

    def truth_files(self) -> Sequence[Path]:
        """The tables, which hold questions and pictures alike."""
        return self._files

    def questions(self) -> list[Question]:
        """In the order of the files; `group` is the sub-task."""
        return [
            Question(
                id=str(row["idx"]),
                image_ids=tuple(ref.id for ref in table.images(i, str(row["idx"]))),
                text=row["question"],
                prompt=row["prompt"],
                answer="" if row["answer"] in (None, "hidden") else row["answer"],
                group=row["sub_task"],
                choices=tuple(row["choices"] or ()),
            )
            for table in self._tables
            for i, row in enumerate(table.rows)
        ]

"""BLINK: multiple-choice perception questions on one to four images, from parquet (protocol 7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from kvtool.datasets.base import About, DatasetBase, ImageRef, Question
from kvtool.datasets.files import found
from kvtool.datasets.parquet import (
    ParquetTable,
    QuestionRow,
    check_unique,
    parquet_files,
    question_rows,
)
from kvtool.errors import DatasetError

_COLUMNS = ("idx", "question", "sub_task", "prompt", "answer", "choices")
_IMAGES = ("image_1", "image_2", "image_3", "image_4")


class Blink(DatasetBase):
    """The images of every sub-task found. Ids are `<idx>/image_<n>`, e.g. val_Art_Style_1/image_2.

    The root may be one sub-task's folder. Answers of `test` are not public: its questions have
    answer "".
    """

    about = About(
        name="blink",
        title="BLINK, multiple-choice visual perception",
        tasks=(),
        splits=("val", "test"),
        layout=(
            "<Sub_Task>/{val,test}-*.parquet  idx, question, sub_task, prompt, answer, choices, "
            "image_1..4",
        ),
        source="BLINK (Fu et al. 2024), the parquet files of BLINK-Benchmark/BLINK",
        licence="Apache-2.0; images under their sources' terms",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        pattern = f"{self.split}-*.parquet"
        converted = f"{self.split}/*.parquet"  # the hub's own conversion: val/0000.parquet
        self._files = parquet_files(
            self.folder, (pattern, f"*/{pattern}", converted, f"*/{converted}")
        )
        if not self._files:
            raise DatasetError(
                f"{self.name}: {self.folder}: expected parquet files at <Sub_Task>/{pattern}, "
                f"found {found(self.folder / pattern, self.folder)}; see docs/datasets.md"
            )

    @cached_property
    def _rows(self) -> list[QuestionRow]:
        tables = [ParquetTable(path, _COLUMNS, _IMAGES) for path in self._files]
        rows = question_rows(tables, lambda row: str(row["idx"]), self.skipped)
        self.unread = list(self.skipped)  # a row's pictures are left out with it
        check_unique([row.id for row in rows], str(self.folder))
        return rows

    def images(self) -> Sequence[ImageRef]:
        """Return the pictures of the questions, each once."""
        return [ref for row in self._rows for ref in row.images]

    def truth_files(self) -> Sequence[Path]:
        """Return the tables, which hold questions and pictures alike."""
        return self._files

    def questions(self) -> list[Question]:
        """In the order of the files; `group` is the sub-task.

        Rows that are no question are in `skipped`.
        """
        return [row.question(group="sub_task") for row in self._rows]

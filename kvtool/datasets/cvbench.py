"""CV-Bench: count, relation, depth and distance as multiple choice, from parquet (protocol 7)."""

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

_COLUMNS = ("idx", "type", "task", "question", "choices", "answer", "prompt", "source")


class CvBench(DatasetBase):
    """One image a question. Ids are `<type>/<idx>/image`, e.g. 2D/17/image."""

    about = About(
        name="cvbench",
        title="CV-Bench, 2D and 3D perception as multiple choice",
        tasks=(),
        splits=("test",),
        layout=(
            "test_{2d,3d}.parquet  idx, type, task, image, question, choices, answer, prompt, "
            "source",
        ),
        source="CV-Bench (Tong et al. 2024), the parquet files of nyu-visionx/CV-Bench",
        licence="Apache-2.0; images of ADE20K, COCO and Omni3D under their own terms",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        # The last two are the hub's own conversion, a folder a configuration and split.
        self._files = parquet_files(
            self.folder, ("test*.parquet", "test/*.parquet", "*/test/*.parquet")
        )
        if not self._files:
            raise DatasetError(
                f"{self.name}: {self.folder}: expected parquet files at test_2d.parquet and "
                "test_3d.parquet, "
                f"found {found(self.folder / 'test_2d.parquet', self.folder)}; see docs/datasets.md"
            )

    @cached_property
    def _rows(self) -> list[QuestionRow]:
        tables = [ParquetTable(path, _COLUMNS, ("image",)) for path in self._files]
        rows = question_rows(tables, lambda row: f"{row['type']}/{row['idx']}", self.skipped)
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
        """In the order of the files; `group` is the task, `source` ADE20K, COCO or Omni3D.

        Rows that are no question are in `skipped`.
        """
        return [row.question(group="task", source="source") for row in self._rows]

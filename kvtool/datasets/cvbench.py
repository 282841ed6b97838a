"""CV-Bench: count, relation, depth and distance as multiple choice, from parquet (protocol 7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from kvtool.datasets.base import About, DatasetBase, ImageRef, Question
from kvtool.datasets.files import found
from kvtool.datasets.parquet import ParquetTable, check_unique
from kvtool.errors import DatasetError

_COLUMNS = ("idx", "type", "task", "question", "choices", "answer", "prompt", "source")


class CvBench(DatasetBase):
    """One image a question. Ids are `<type>/<idx>/image`, e.g. 2D/17/image."""

    about = About(
        name="cvbench",
        title="CV-Bench, 2D and 3D perception as multiple choice",
        tasks=(),
        splits=("test",),
        layout=("test_{2d,3d}.parquet  idx, type, task, image, question, choices, answer, prompt, source",),
        source="CV-Bench (Tong et al. 2024), the parquet files of nyu-visionx/CV-Bench",
        licence="Apache-2.0; images of ADE20K, COCO and Omni3D under their own terms",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self._files = sorted(self.folder.glob("test*.parquet"))
        if not self._files:
            raise DatasetError(
                f"{self.name}: {self.folder}: expected parquet files at test_2d.parquet and test_3d.parquet, "
                f"found {found(self.folder / 'test_2d.parquet', self.folder)}; see docs/datasets.md"
            )

    @cached_property
    def _tables(self) -> list[ParquetTable]:
        tables = [ParquetTable(path, _COLUMNS, ("image",)) for path in self._files]
        check_unique([f"{row['type']}/{row['idx']}" for table in tables for row in table.rows], str(self.folder))
        return tables

    @cached_property
    def _images(self) -> list[ImageRef]:
        return [
            ref
            for table in self._tables
            for i, row in enumerate(table.rows)
            for ref in table.images(i, f"{row['type']}/{row['idx']}")
        ]

    def images(self) -> Sequence[ImageRef]:
        return self._images

    def truth_files(self) -> Sequence[Path]:
        """The tables, which hold questions and pictures alike."""
        return self._files

    def questions(self) -> list[Question]:
        """In the order of the files; `group` is the task, `source` ADE20K, COCO or Omni3D."""
        return [
            Question(
                id=f"{row['type']}/{row['idx']}",
                image_ids=tuple(ref.id for ref in table.images(i, f"{row['type']}/{row['idx']}")),
                text=row["question"],
                prompt=row["prompt"],
                answer=row["answer"] or "",
                group=row["task"],
                choices=tuple(row["choices"] or ()),
                source=row["source"],
            )
            for table in self._tables
            for i, row in enumerate(table.rows)
        ]

"""BLINK's parquet files as they are pushed, converted, split and damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cases.outcomes import refusal, rows, told
from tests.support import datasets as builders
from tests.support.shell import Outcome, Shell

SUB_TASK = "Art_Style"
FILE = f"{SUB_TASK}/val-00000-of-00001.parquet"
QUESTIONS, IMAGES_EACH = 5, 3
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n"
Change = Callable[[Path], object]
Commands = Callable[[Change], tuple[Outcome, Outcome]]


@pytest.fixture
def commands(shell: Shell, tiny_model: Path, tmp_path: Path) -> Commands:
    """Extract the questions' pictures after a change of their file, and compare them where there is
    a run.
    """

    def run(change: Change) -> tuple[Outcome, Outcome]:
        path, store = tmp_path / "blink" / FILE, tmp_path / "s.kv"
        images = [f"image_{k}" for k in (1, 2, 3, 4)]
        builders.parquet(path, builders.blink_rows(SUB_TASK, "val", QUESTIONS), images)
        change(path)
        source = (
            "--model",
            tiny_model,
            "--dataset",
            f"blink:{tmp_path / 'blink'}",
            "--kinds",
            "key,value",
        )
        extracted = shell("extract", store, *source)
        if not extracted[1]:
            return extracted, extracted
        return extracted, shell("paired", store, "art-style")

    return run


def column(name: str, values: Callable[[pa.Table], Any]) -> Change:
    """Another array in the place of a column."""

    def change(path: Path) -> None:
        table = pq.read_table(path)
        pq.write_table(table.set_column(table.column_names.index(name), name, values(table)), path)

    return change


def cells(name: str, cell: Callable[[Any], Any]) -> Change:
    return column(
        name,
        lambda table: pa.array(
            [cell(value) for value in table.column(name).to_pylist()], builders.IMAGE_CELL
        ),
    )


def nothing(name: str) -> Change:
    """Null in every row of a column."""
    return column(name, lambda table: pa.array([None] * len(table), table.schema.field(name).type))


def as_large_texts(path: Path) -> None:
    table = pq.read_table(path)
    fields = [
        pa.field(f.name, pa.large_string() if pa.types.is_string(f.type) else f.type)
        for f in table.schema
    ]
    pq.write_table(table.cast(pa.schema(fields)), path)


def in_two_files(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 2), path.with_name("val-00000-of-00002.parquet"))
    pq.write_table(table.slice(2), path.with_name("val-00001-of-00002.parquet"))
    path.unlink()


def converted(path: Path) -> None:
    """As the hub's own conversion lays files out."""
    (path.parent / "val").mkdir()
    path.rename(path.parent / "val/0000.parquet")


def beside_a_cache(path: Path) -> None:
    folder = path.parent / ".cache/huggingface"
    folder.mkdir(parents=True)
    (folder / "val-x.parquet.lock").touch()


READ: dict[str, Change] = {
    "as released": lambda _: None,
    "no paths": cells("image_1", lambda cell: {**cell, "path": None}),
    "large texts": as_large_texts,
    "a dictionary": column("sub_task", lambda table: table.column("sub_task").dictionary_encode()),
    "numbers as ids": column("idx", lambda table: pa.array(range(len(table)))),
    "small groups": lambda path: pq.write_table(
        pq.read_table(path), path, row_group_size=1, compression="zstd"
    ),
    "two files": in_two_files,
    "converted": converted,
    "a cache beside": beside_a_cache,
}


@pytest.mark.slow
@pytest.mark.parametrize("case", READ)
def test_what_can_be_read_is_compared(commands: Commands, case: str) -> None:
    extracted, paired = commands(READ[case])
    assert rows(extracted)[0]["extracted"] == QUESTIONS * IMAGES_EACH
    assert {row["n"] for row in rows(paired)} == {QUESTIONS}


@pytest.mark.slow
def test_hidden_answers_are_said_to_be_hidden(commands: Commands) -> None:
    line = refusal(commands(nothing("answer"))[1], 2)
    assert "its answer is hidden" in line
    assert "extract them" not in line


@pytest.mark.slow
def test_a_broken_picture_leaves_out_its_question(commands: Commands) -> None:
    def cut(path: Path) -> None:
        first: list[bool] = []

        def cell(value: Any) -> Any:
            first.append(True)
            return {**value, "bytes": value["bytes"][:40]} if len(first) == 1 else value

        cells("image_1", cell)(path)

    extracted, paired = commands(cut)
    told(extracted, 4, "image_1")
    assert json.loads(extracted[1])["extracted"] == QUESTIONS * IMAGES_EACH - 1
    told(paired, 0, "the run does not hold val_Art_Style_1/image_1")
    assert {json.loads(line)["n"] for line in paired[1].splitlines()} == {QUESTIONS - 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        cells("image_1", lambda _: {"bytes": None, "path": "/home/x/1.jpg"}),
        cells("image_3", lambda _: {"bytes": None, "path": None}),
        nothing("choices"),
    ],
)
def test_questions_without_a_picture_or_choices_are_named(
    commands: Commands, change: Change
) -> None:
    extracted, paired = commands(change)
    told(extracted, extracted[0], *(["image_"] if extracted[0] else []))
    assert extracted[0] in (0, 4)
    assert f"val_{SUB_TASK}_1" in refusal(paired, 2)


@pytest.mark.slow
def test_a_pointer_and_an_empty_file(commands: Commands, tmp_path: Path) -> None:
    line = refusal(commands(lambda path: path.write_text(POINTER))[0])
    assert "found a git-lfs pointer, not the file; fetch it: git lfs pull" in line
    line = refusal(
        commands(lambda path: pq.write_table(pq.read_table(path).slice(0, 0), path))[0], 2
    )
    assert "expected at least one image, found none" in line
    assert not list(tmp_path.glob("s.kv/runs/*/"))

"""Which tokens are read, and the table that says where they lie."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.errors import UsageError
from kvtool.store import Run
from kvtool.store.tokens import COLUMNS, TokenChoice, consecutive
from kvtool.types import GridSpan, Kind, Sample
from tests.support.runs import assert_same_bits, commit, new_run

HAS_PANDAS = importlib.util.find_spec("pandas") is not None


def tiled(index: int, rows: int, cols: int) -> Sample:
    """An image of a base grid, then tiles of 2 x 3 whose rows end with a newline; its vision grid
    is twice as fine.
    """
    n_base = rows * cols
    cover = (0.0, 0.0, 10.0 * cols, 20.0 * rows)
    spans = (
        GridSpan("base", 0, (rows, cols), cols, cover),
        GridSpan("tiles", n_base, (2, 3), 4, cover),
    )
    vision = (GridSpan("base", 0, (2 * rows, 2 * cols), 2 * cols, cover),)
    return Sample(
        id=f"image{index}",
        index=index,
        image_wh_px=(10 * cols, 20 * rows),
        n_tokens=n_base + 8,
        spans=spans,
        n_vision_tokens=4 * n_base,
        vision_spans=vision,
        prefix="",
        prefix_ids=(),
        image_start=0,
        next_position=n_base + 8,
    )


SAMPLES = [tiled(0, 2, 3), tiled(1, 3, 2), tiled(2, 2, 3)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = new_run(tmp_path)
    commit(run, SAMPLES[:2])
    commit(run, SAMPLES[2:])
    return run


CHOICES: list[dict[str, Any]] = [
    {"tokens": 0},
    {"tokens": [7, 2, 3, 3]},
    {"tokens": slice(None, None, 5)},
    {"tokens": []},
    {"tokens": np.array([1, 0])},
    {"rows": 1},
    {"cols": 1},
    {"rows": [1, 0], "cols": slice(0, 1)},
    {"rows": slice(5, None)},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("kind", ["value", "vision"])
@pytest.mark.parametrize("ids", [None, ["image2", "image0"]])
def test_chosen_tokens_are_those_of_the_whole_block(
    run: Run, kind: Kind, choice: dict[str, Any], ids: list[str] | None
) -> None:
    layer = run.config.stored_layers(kind)[-1]
    values, images = run.read(kind, layer, ids=ids, raw=True)
    block = run.read(kind, layer, ids=ids, raw=True, **choice)
    # The slow way: every image's own tokens, cut out of the block that was read as a whole.
    pieces = [
        values[image.start : image.stop][TokenChoice(**choice).indices(image.sample, kind)]
        for image in images
    ]
    assert_same_bits(block.values, np.concatenate(pieces))
    assert block.offsets.tolist() == np.cumsum([0, *map(len, pieces)]).tolist()
    table = run.tokens(ids, kind, **choice)
    assert len(table) == len(block.values)


def test_rows_and_columns_span_the_base_grid_row_by_row() -> None:
    choice = TokenChoice(rows=[1, 0], cols=slice(1, None))
    assert choice.indices(SAMPLES[0], "value").tolist() == [4, 5, 1, 2]
    assert choice.indices(SAMPLES[0], "vision").tolist() == [7, 8, 9, 10, 11, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"tokens": 99}, r"image image0: no token 99: expected 0 to 13"),
        ({"tokens": -1}, r"no token -1"),
        ({"rows": 2}, r"image image0: no row 2: expected 0 to 1"),
        ({"cols": [0, 3]}, r"image image0: no col 3"),
        ({"tokens": 0, "rows": 0}, r"either tokens or rows and cols"),
        ({"tokens": [0.5]}, r"tokens: expected whole numbers"),
        ({"tokens": "first"}, r"tokens: expected whole numbers"),
        ({"rows": [[0]]}, r"rows: expected whole numbers"),
    ],
    ids=str,
)
def test_a_token_that_is_not_there_is_named(run: Run, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run.read("value", 1, **choice)
    with pytest.raises(UsageError, match=message):
        run.tokens(**choice)


def test_consecutive_indices_are_read_at_once() -> None:
    assert list(consecutive(np.array([3, 4, 5, 9, 8, 7, 8]))) == [(3, 6), (9, 10), (8, 9), (7, 9)]
    assert list(consecutive(np.array([], np.int64))) == []


@pytest.mark.parametrize("pandas", [True, False])
@pytest.mark.parametrize("kind", ["value", "vision"])
def test_the_table_places_every_token(
    run: Run, kind: Kind, pandas: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pandas and not HAS_PANDAS:
        pytest.skip("pandas is not installed")
    if not pandas:
        monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    table = run.tokens(kind=kind)
    assert isinstance(table, np.ndarray) != pandas
    assert tuple(table.columns if pandas else table.dtype.names) == COLUMNS
    columns = [np.asarray(table[name]).tolist() for name in COLUMNS]
    expected = [row for sample in SAMPLES for row in slow_table(sample, kind)]
    assert repr(list(zip(*columns, strict=True))) == repr(expected)


def slow_table(sample: Sample, kind: Kind) -> list[tuple[Any, ...]]:
    """Token by token, with the geometry that the samples have."""
    spans = sample.vision_spans if kind == "vision" else sample.spans
    rows = []
    for token in range(sample.count_tokens(kind)):
        position: tuple[Any, ...] = (-1, -1, float("nan"), float("nan"), "")
        for span in spans:
            if token in span.token_indices():
                row, col = divmod(token - span.start, span.row_stride)
                position = (row, col, *span.centre_px(row, col), span.name)
        rows.append((sample.id, token, *position))
    return rows


def test_a_table_of_no_image_has_its_columns(tmp_path: Path) -> None:
    table = new_run(tmp_path).tokens()
    assert len(table) == 0
    assert len(table["x_px"]) == 0

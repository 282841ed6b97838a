"""What every probe shares: the task protocol, and the walk over blocks that turns its units into a
result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from kvtool.features.layers import Layer
from kvtool.result import Row, metric_names
from kvtool.stats.bootstrap import Estimate, Scores, bootstrap
from kvtool.store import Run
from kvtool.store.nonfinite import WHAT, describe
from kvtool.types import Kind

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]
Select = ("max", "split")


class Table(NamedTuple):
    """Rows to make of one layer: labels they carry ({} for the summary), units (head, n, k), how to
    score sums of them, and strata (n,) within which units are resampled.
    """

    labels: dict[str, Any]
    units: Array
    scores: Scores
    strata: Array | None = None


class Scored(Protocol):
    """What score_blocks asks of a task."""

    @property
    def metric(self) -> str: ...

    def measure(self, layer: Layer) -> Array:
        """What the tables are made of, from one layer: (head, n, ...), one entry per
        sampling unit.
        """
        ...

    def tables(self, measured: Array) -> Iterator[Table]:
        """The summary first, then rows by label."""
        ...


class Task(Scored, Protocol):
    """A probe. Constructed as Task(dataset, ids, device, **options): `ids` maps the images that the
    run holds to their (width, height) in pixels, which annotations are compared with.

    Options are keyword-only parameters with defaults; `settings` gives back those that the numbers
    depend on.

    unit: of the metrics: "fraction" and "percent" are shown as percent, a physical unit such as "m"
    as it is, "" has no mark. higher_is_better: False for an error. serves: names of data sets whose
    own list of tasks lacks this one. promptable: whether `kvtool prefix` compares it under texts
    before the image.

    Of its pictures, which `show` and the page draw alike, a class says `drawing`: "masks",
    "objects" or "matches", see kvtool.pictures.tiles; or it draws its files itself, by
    draw(picture, record, folder). Tasks of masks and objects also have truth(record): what a saved
    record is scored against, (height, width) ids. Where they differ from the default, a class has
    examples(count), ids of images that stand for the others; given(), ids of images whose truth it
    starts from; and picture_options, options of its pictures that are not those of its scores.

    A task may say n_unusable, too: of n_skipped, the units whose annotation or picture cannot be
    used, for which `kvtool probe` ends with exit code 4.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    unit: ClassVar[str]
    higher_is_better: ClassVar[bool]
    serves: ClassVar[tuple[str, ...]]
    promptable: ClassVar[bool]
    kinds: ClassVar[tuple[Kind, ...]]
    n: int
    skipped: list[str]
    n_skipped: int

    def settings(self) -> dict[str, Any]: ...

    def images(self) -> set[str]:
        """Ids of all images that the task reads."""
        ...

    def only(self, images: Collection[str]) -> None:
        """From now on `save` writes what is about these images alone, bit for bit as among all;
        `measure` is over.
        """
        ...

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """Write what the block layer.heads[index] predicts, exactly what `measure` scores of it, in
        the benchmark's result format. A record for each file, its name as `file`.
        """
        ...


@dataclass(frozen=True)
class BlockPlan:
    """Which blocks of which run: (kind, layers, heads) in order."""

    run: Run
    blocks: tuple[tuple[Kind, tuple[int, ...], tuple[int, ...]], ...]


def score_blocks(
    task: Scored,
    plan: BlockPlan,
    device: torch.device,
    select: str,
    seed: int,
    progress: Callable[..., None] | None,
) -> tuple[list[Row], list[Row]]:
    """Rows of all blocks of a plan; and for select "split", the summary rows of the two halves of
    the units.

    A half's row holds what was found on the first half (to choose by) as `chosen_<metric>`, and the
    second half's scores. A block of which some image or text that the task reads holds values that
    are not finite has no scores (all None), but their number as `nonfinite`. Memory: what one layer
    needs (see Layer and the task); results are a few numbers a block.
    """
    rows: list[Row] = []
    halves: list[Row] = []
    for kind, layers, heads in plan.blocks:
        for number in layers:
            layer = Layer(plan.run, kind, number, heads, device)
            measured = task.measure(layer)
            blocks = [{"kind": kind, "layer": number, "kv_head": head} for head in heads]
            tables = list(task.tables(measured))
            for table in tables:
                rows += table_rows(blocks, table, seed, layer.nonfinite)
            if select == "split":
                halves += _half_rows(blocks, tables[0], task.metric, seed, layer.nonfinite)
            if progress is not None:
                progress(len(heads), f"{kind} layer {number}")
    return rows, halves


def table_rows(
    blocks: Sequence[Row], table: Table, seed: int, nonfinite: Array | None = None
) -> list[Row]:
    """A row for each block of a table's units; no scores where `nonfinite` (block,) is not 0."""
    found = bootstrap(table.units, table.scores, strata=table.strata, seed=seed)
    n = table.units.shape[1]
    rows = [
        {**block, **table.labels, **_scores(found, index, n), "n": n}
        for index, block in enumerate(blocks)
    ]
    if nonfinite is None:
        return rows
    return [
        _without_scores(row, count) if count else row
        for row, count in zip(rows, nonfinite.tolist(), strict=True)
    ]


def _without_scores(row: Row, nonfinite: int) -> Row:
    scores = {metric + end for metric in metric_names(row) for end in ("", "_low", "_high")}
    return {name: None if name in scores else value for name, value in row.items()} | {
        "nonfinite": nonfinite
    }


def nonfinite_lines(run: Run, rows: Sequence[Row]) -> list[str]:
    """A line that names the blocks among a run's rows that have no scores for their values, if
    there are any.
    """
    places = {(row["kind"], row["layer"], row["kv_head"]) for row in rows if row.get("nonfinite")}
    return (
        [f"run {run.name}: {WHAT}, so no scores: {describe(places, run.config)}"] if places else []
    )


def _scores(found: Mapping[str, Estimate], index: int, n: int) -> Row:
    """Scores of a block with the ends of their intervals; one unit alone has none."""
    row: Row = {}
    for name, estimate in found.items():
        for suffix, values in zip(("", "_low", "_high"), estimate, strict=True):
            value = float(values[index])
            row[name + suffix] = None if np.isnan(value) or (suffix and n == 1) else value
    return row


def halves(n: int, seed: int) -> tuple[Array, Array]:
    """Indices of the units by which select "split" chooses a block, and of those on which it scores
    it.
    """
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def _half_rows(
    blocks: Sequence[Row], table: Table, metric: str, seed: int, nonfinite: Array
) -> list[Row]:
    first, second = halves(table.units.shape[1], seed)
    chosen = table.scores(table.units[:, first].sum(axis=1))[metric]
    strata = None if table.strata is None else table.strata[second]
    rows = table_rows(
        blocks, table._replace(units=table.units[:, second], strata=strata), seed, nonfinite
    )
    known = np.where(nonfinite > 0, np.nan, chosen)
    return [
        {**row, f"chosen_{metric}": float(value)} for row, value in zip(rows, known, strict=True)
    ]

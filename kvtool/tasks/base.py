"""What every probe shares: the task protocol, and the rows that its units turn into."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from kvtool.errors import UsageError
from kvtool.features.layers import Layer
from kvtool.result import Row, metric_names
from kvtool.stats.bootstrap import Estimate, Scores, bootstrap, count_clusters
from kvtool.stats.halves import halves as halves
from kvtool.stats.proportions import TOPS, widened, widened_difference
from kvtool.store import Run
from kvtool.store.nonfinite import WHAT, describe
from kvtool.types import GridSpan, Kind

Array = np.ndarray[Any, Any]
Select = ("max", "split")


Grids = Mapping[str, GridSpan]
"""Where the base grid of each image lies, by the image's id."""


class Table(NamedTuple):
    """Rows to make of one layer.

    labels: what they carry, {} for the summary. units: (head, n, k). scores: how to score sums of
    them. strata: (n,), within which units are resampled. clusters: (n,) or (n, 2), what units share
    and what is resampled in their place, see kvtool.stats.bootstrap. members: (n,) indices of these
    among the task's units, None for all of them. half: (n,) 0 or 1, where the task says which half
    of select "split" a unit is in. facts: further fields of the rows. repeats: of how many
    repetitions, such as seeds, a unit's k numbers are. drawn_by_stratum: whether what is random is
    drawn for a stratum as a whole, as images of a class are clustered together; else for each unit.
    """

    labels: dict[str, Any]
    units: Array
    scores: Scores
    strata: Array | None = None
    clusters: Array | None = None
    members: Array | None = None
    half: Array | None = None
    facts: Row | None = None
    repeats: int = 1
    drawn_by_stratum: bool = False

    def of(self, rows: Array) -> Table:
        """The same for some of the units, by their indices in the table."""

        def part(numbers: Array | None) -> Array | None:
            return None if numbers is None else numbers[rows]

        return self._replace(
            units=self.units[:, rows],
            strata=part(self.strata),
            clusters=part(self.clusters),
            members=rows if self.members is None else self.members[rows],
            half=part(self.half),
        )

    def halves(self, seed: int) -> tuple[Table, Table]:
        """The units by which select "split" chooses a block, and those on which it scores it.

        Raises UsageError where one of them is empty.
        """
        # Units that were drawn as halves have theirs; others are halved by picture.
        if self.half is not None:
            sides = np.flatnonzero(self.half == 0), np.flatnonzero(self.half == 1)
        else:
            sides = halves(self.units.shape[1], seed, self.clusters)
        # All units may hang together by their pictures, which leaves one half empty.
        if not all(map(len, sides)):
            raise UsageError(
                "--select split: expected sampling units on two halves of the pictures, found "
                "them on one of the halves alone; use max"
            )
        return self.of(sides[0]), self.of(sides[1])


class ChanceLevel(NamedTuple):
    """What knows nothing gets on the units of one table.

    row: fields that go into rows. metric: the one that is compared. units: (draw, n, k) of the best
    predictor that knows nothing; no draws where there is none.
    """

    row: Row
    metric: str
    units: Array


class Scored(Protocol):
    """What score_blocks asks of a task."""

    @property
    def metric(self) -> str:
        """The metric by which blocks are compared."""
        ...

    @property
    def unit(self) -> str:
        """The unit of the metrics, see Task."""
        ...

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

    It may have guesses(grids, seed), ceiling(grids) and unseen(grids), see kvtool.tasks.chance.

    unit: of the metrics: "fraction" and "percent" are shown as percent, a physical unit such as "m"
    as it is, "" has no mark; those two alone have Wilson's interval at their edges.
    higher_is_better: False for an error. serves: names of data sets whose own list of tasks lacks
    this one. promptable: whether `kvtool prefix` compares it under texts before the image.

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

    def settings(self) -> dict[str, Any]:
        """Return the options that the numbers depend on."""
        ...

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
    """Which blocks of which run: (kind, layers, heads) in order.

    A kind whose layers differ in their number of heads has an entry for each number.
    """

    run: Run
    blocks: tuple[tuple[Kind, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """Every layer of some block, in order."""
        return tuple(sorted({layer for _, layers, _ in self.blocks for layer in layers}))

    @property
    def heads(self) -> tuple[int, ...]:
        """Every head of some block, in order."""
        return tuple(sorted({head for _, _, heads in self.blocks for head in heads}))

    def heads_at(self, kind: Kind, layer: int) -> tuple[int, ...]:
        """Return the heads that are scored together in a layer; none where it has no block."""
        return next(
            (hs for planned, layers, hs in self.blocks if planned == kind and layer in layers), ()
        )


def table_rows(
    blocks: Sequence[Row],
    table: Table,
    seed: int,
    nonfinite: Array | None = None,
    level: ChanceLevel | None = None,
    unit: str = "fraction",
) -> list[Row]:
    """A row for each block of a table's units; no scores where `nonfinite` (block,) is not 0.

    unit: of the scores, which says whether they have an edge that intervals collapse at.
    """
    units, scores = table.units, table.scores
    # Of the summary the difference to chance is resampled together with the scores.
    if level is not None and len(level.units) and not table.labels:
        units, scores = _beside_chance(table, level)
    resampling: dict[str, Any] = {
        "strata": table.strata,
        "clusters": table.clusters,
        "repeats": table.repeats,
    }
    # All blocks of a table see the same resamples.
    estimates = bootstrap(units, scores, seed=seed, **resampling)
    n = table.units.shape[1]
    # An interval rests on as many independent things as were resampled, not on all units.
    n_resampled = count_clusters(n, table.clusters)
    collapsed = estimates
    estimates = widened(collapsed, n_resampled, TOPS.get(unit, {}))
    if level is not None and (difference := estimates.get("chance_difference")) is not None:
        primary = collapsed[level.metric], estimates[level.metric]
        estimates["chance_difference"] = widened_difference(difference, *primary)
    resampled = {} if table.clusters is None else {"n_resampled": n_resampled}
    counts = {"n": n, **resampled, **(table.facts or {})}
    chance = {} if level is None else level.row
    rows = [
        {**block, **table.labels, **_scores(estimates, index, n_resampled), **chance, **counts}
        for index, block in enumerate(blocks)
    ]
    # A block that holds a NaN has a score of numbers alone that would stand for all: it has none.
    if nonfinite is None:
        return rows
    return [
        _without_scores(row, count) if count else row
        for row, count in zip(rows, nonfinite.tolist(), strict=True)
    ]


def _beside_chance(table: Table, level: ChanceLevel) -> tuple[Array, Scores]:
    """A table's units with those of what knows nothing behind them, and what scores both: the
    table's scores, and the blocks' primary metric less chance, in the same resamples.
    """
    heads = len(table.units)

    def scores(sums: Array) -> dict[str, Array]:
        """Score sums (..., head and draw, k) to (..., head)."""
        scored = table.scores(sums)
        # The units of the best guess stand behind the blocks', draw by draw.
        primary = scored[level.metric]
        # Of a random predictor the mean over its draws is compared.
        difference = primary[..., :heads] - primary[..., heads:].mean(axis=-1, keepdims=True)
        return {name: score[..., :heads] for name, score in scored.items()} | {
            "chance_difference": difference
        }

    return np.concatenate([table.units, level.units]), scores


def _without_scores(row: Row, nonfinite: int) -> Row:
    names = [*metric_names(row), "chance_difference"]
    scores = {name + end for name in names for end in ("", "_low", "_high")}
    return {name: None if name in scores else value for name, value in row.items()} | {
        "nonfinite": nonfinite
    }


def nonfinite_lines(run: Run, rows: Sequence[Row]) -> list[str]:
    """A line that names the blocks among a run's rows that have no scores for their values, if
    there are any.
    """
    blocks = {(row["kind"], row["layer"], row["kv_head"]) for row in rows if row.get("nonfinite")}
    return (
        [f"run {run.name}: {WHAT}, so no scores: {describe(blocks, run.config)}"] if blocks else []
    )


def _scores(estimates: Mapping[str, Estimate], index: int, n: int) -> Row:
    """Scores of a block with the ends of their intervals; none where one thing is resampled."""
    row: Row = {}
    for name, estimate in estimates.items():
        for suffix, values in zip(("", "_low", "_high"), estimate, strict=True):
            value = float(values[index])
            row[name + suffix] = None if np.isnan(value) or (suffix and n == 1) else value
    return row

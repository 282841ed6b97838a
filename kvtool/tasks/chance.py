"""What knows nothing gets on a task under the same rule: the chance levels beside its scores.

A task may say, each for where the grids of a kind lie (image id -> grid):

- guesses(grids, seed): names of predictors that know nothing of what an image shows, and what
  `measure` would give for them, (draw, n, ...); a random predictor has several draws, independent
  of each other and from unit to unit. Where the task's rule takes something of the run, its
  `guesses_by_run` is true, and they are guesses(grids, seed, run).
- ceiling(grids): the same, (1, n, ...), for the best that patches of these grids could get.
- unseen(grids): (n, 2), how much of what is scored lies outside the grids, and how much there is.

`tables` scores them with the code, units and strata of the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtool.result import Result, Row, best_row, chance_kind_of, is_summary
from kvtool.stats.bootstrap import Estimate, bootstrap, count_clusters
from kvtool.store import Run
from kvtool.tasks.base import Array, ChanceLevel, Grids, Table, Task
from kvtool.types import GridSpan, Kind

DRAWS = 8
"""Draws of a random predictor. A draw costs about what a head costs once."""
RECOMBINED = 200
"""Draws that are put together from those of single units, to know how a score varies."""
MAXIMA = 4000
"""Simulated maxima over as many blocks as a result chose from."""


def pixels_unseen(span: GridSpan, wh_px: tuple[int, int]) -> tuple[int, int]:
    """How many pixels of an image have their center outside a grid's cover, and how many it has."""
    x0, y0, x1, y1 = span.cover_xyxy_px
    seen = [
        np.count_nonzero((low <= np.arange(size) + 0.5) & (np.arange(size) + 0.5 < high))
        for size, low, high in ((wh_px[0], x0, x1), (wh_px[1], y0, y1))
    ]
    # The grid's cover is a rectangle: pixels seen are rows seen times columns seen.
    n_pixels = wh_px[0] * wh_px[1]
    return n_pixels - int(seen[0] * seen[1]), n_pixels


@dataclass
class Chances:
    """The chance levels of a task, on each set of grids once.

    rows: what each predictor that knows nothing gets, as a result keeps them.
    """

    task: Task
    seed: int
    rows: list[Row] = field(default_factory=list)
    _computed: list[tuple[Grids, str | None, _OnGrids]] = field(default_factory=list)

    def of(self, run: Run, kind: Kind, table: Table) -> ChanceLevel | None:
        """The level of a table of the task on a run's grids; None where the task has none."""
        on_grids = self.on_grids(run, kind)
        return None if on_grids is None else on_grids.level(table)

    def on_grids(self, run: Run, kind: Kind) -> _OnGrids | None:
        """What knows nothing on the grids of a run's kind, whose rows are among `rows` from then
        on; None where the task has none.
        """
        if not any(getattr(self.task, name, None) for name in ("guesses", "ceiling", "unseen")):
            return None
        # Guesses depend on the grid of patches, since masks and points are read off it.
        images = self.task.images()
        grids = {sample.id: sample.base(kind) for sample in run.views if sample.id in images}
        # Guesses look at no vector: kinds and runs of equal grids share them.
        by_run = getattr(self.task, "guesses_by_run", False)
        name = run.name if by_run else None
        computed = (
            level for spans, run_name, level in self._computed if (spans, run_name) == (grids, name)
        )
        on_grids = next(computed, None)
        if on_grids is None:
            on_grids = _OnGrids(self.task, self.seed, grids, run if by_run else None)
            self.rows += [{"kind": kind, **row} for row in on_grids.rows()]
            self._computed.append((grids, name, on_grids))
        return on_grids


class _OnGrids:
    """What knows nothing gets on some grids: a table for each predictor and label."""

    def __init__(self, task: Task, seed: int, grids: Grids, run: Run | None = None) -> None:
        self.seed = seed
        self.metric, self.higher_is_better = task.metric, task.higher_is_better
        guesses = getattr(task, "guesses", None)
        self.guesses: dict[str, dict[str, Table]] = {}
        if guesses is not None:
            by_run = () if run is None else (run,)
            for name, measured in guesses(grids, seed, *by_run):
                self.guesses[name] = _by_label(task.tables(measured))
        ceiling = getattr(task, "ceiling", None)
        self.ceiling = {} if ceiling is None else _by_label(task.tables(ceiling(grids)))
        unseen = getattr(task, "unseen", None)
        self.unseen = None if unseen is None else np.asarray(unseen(grids), np.float64)
        self._levels: dict[tuple[str, int], ChanceLevel] = {}

    def level(self, table: Table) -> ChanceLevel:
        """The level beside a table, computed once for all blocks."""
        key = repr(table.labels), table.units.shape[1]
        if key not in self._levels:
            self._levels[key] = self._level(table)
        return self._levels[key]

    def _level(self, table: Table) -> ChanceLevel:
        row: Row = {}
        units = np.zeros((0, *table.units.shape[1:]))
        guesses = {name: _alike(tables, table) for name, tables in self.guesses.items()}
        # Each predictor that knows nothing is scored as the blocks are, under the same rule.
        rows = [
            {"chance_kind": name, **mean_row(guess, self.seed)} for name, guess in guesses.items()
        ]
        # The best of what knows nothing is what a block has to exceed.
        best = best_row(rows, self.metric, self.higher_is_better)
        if best is not None:
            ends = {end: best[self.metric + end] for end in ("", "_low", "_high")}
            row |= {f"chance{end}": value for end, value in ends.items()}
            row["chance_kind"] = best["chance_kind"]
            units = guesses[best["chance_kind"]].units
        # The best score that a grid of patches allows at all.
        if self.ceiling:
            row["ceiling"] = mean_row(_alike(self.ceiling, table), self.seed)[self.metric]
        # The share of what is scored that no patch covers: no value speaks for it.
        if self.unseen is not None:
            outside, total = self.unseen[_members(table)].sum(axis=0)
            row["unseen"] = float(outside / total) if total else None
        return ChanceLevel(row, self.metric, units)

    def rows(self) -> Iterator[Row]:
        """A row for each predictor and label; of a random one also how its draws are spread."""
        for name, tables in self.guesses.items():
            for table in tables.values():
                n_draws = len(table.units)
                row = {"predictor": name, **table.labels, **mean_row(table, self.seed)}
                if n_draws > 1:
                    row["draws_sd"] = spread_of_draws(table, self.metric, self.seed)
                yield {**row, "draws": n_draws}


def spread_of_draws(table: Table, metric: str, seed: int) -> float:
    """The standard deviation of a random predictor's scores over its draws.

    A few draws say little of it. But units are drawn independently: of each unit any draw may
    stand beside any of the others, which makes many draws of few. They vary as draws do whose
    units' variance is that among the few, which is too small by one in their number.

    Where a stratum is drawn as a whole, its units stay together, and a repetition is a draw of its
    own.
    """
    n = table.units.shape[1]
    repeats = table.repeats
    # (draw and repetition, unit, k)
    single = np.concatenate(np.split(table.units, repeats, axis=-1))
    together = np.arange(n)
    if table.drawn_by_stratum:
        together = np.zeros(n, int) if table.strata is None else table.strata
    groups, group = np.unique(together, return_inverse=True)
    rng = np.random.default_rng(seed)

    def recombined() -> Array:
        """Sum one draw of each group, (k,)."""
        picks = rng.integers(len(single), size=len(groups))[group]
        return np.asarray(single[picks, np.arange(n)].sum(axis=0))

    sums = [np.concatenate([recombined() for _ in range(repeats)]) for _ in range(RECOMBINED)]
    # A variance among few draws is too small by one in their number.
    spread = np.std(table.scores(np.array(sums))[metric], ddof=1)
    return float(spread * np.sqrt(len(single) / max(1, len(single) - 1)))


def _by_label(tables: Iterator[Table]) -> dict[str, Table]:
    return {repr(table.labels): table for table in tables}


def _members(table: Table) -> Any:
    return slice(None) if table.members is None else table.members


def _alike(tables: Mapping[str, Table], table: Table) -> Table:
    """The table of the same labels, over the same units: the summary's may be of a half."""
    guess = tables[repr(table.labels)]
    is_half = guess.members is None and table.members is not None
    return guess.of(_members(table)) if is_half else guess


def mean_row(table: Table, seed: int) -> Row:
    """The means over draws of a random predictor's scores, with intervals over units and draws.

    Draws of single units are independent from unit to unit, so that their spread is in that of the
    units. Those that units of a stratum have in common are resampled beside the units.
    """
    # Where a stratum is drawn as a whole, a draw is a repetition that is resampled, too.
    n_draws, n, k = table.units.shape
    repeats = n_draws * table.repeats if table.drawn_by_stratum else 1
    # (1, n, draw * k): draws after each other, as repetitions are.
    units = np.moveaxis(table.units, 0, 1).reshape(1, n, n_draws * k)

    def scores(sums: Array) -> dict[str, Array]:
        """Score sums (..., draw * k) to (...)."""
        by_draw = sums.reshape(*sums.shape[:-1], n_draws, k)
        if table.drawn_by_stratum:
            # A resample may lack a draw, which has no score then: they add up, as seeds do.
            return table.scores(by_draw.sum(axis=-2))
        return {name: score.mean(axis=-1) for name, score in table.scores(by_draw).items()}

    resampling: dict[str, Any] = {"strata": table.strata, "clusters": table.clusters}
    has_interval = count_clusters(n, table.clusters) > 1
    row: Row = {}
    for name, estimate in bootstrap(
        units, scores, seed=seed, repeats=repeats, **resampling
    ).items():
        row |= _fields(name, Estimate(*(end[0] for end in estimate)), has_interval)
    return {**row, "n": n}


def _fields(name: str, estimate: Estimate, has_interval: bool) -> Row:
    numbers = [None if np.isnan(number) else float(number) for number in estimate]
    ends = numbers[1:] if has_interval else [None, None]
    return dict(zip((name, f"{name}_low", f"{name}_high"), [numbers[0], *ends], strict=True))


def beside_chance(best: Row, result: Result, n_blocks: int, select: str) -> Row:
    """The best row with what it would be among blocks that know nothing, and whether it exceeds
    that.

    chance_max: the expected best of so many blocks that know nothing, with the interval in which 95
    % of such bests lie; with select "split" it was chosen on the other half, so that nothing was
    chosen by its score and it has none. exceeds_chance: its difference to chance is beyond 0, and
    it is beyond the interval of chance_max; None where that cannot be told.
    """
    if best.get("chance") is None or best.get(result.metric) is None:
        return best
    sign = 1 if result.higher_is_better else -1
    facing = "_low" if result.higher_is_better else "_high"
    difference = best.get(f"chance_difference{facing}")
    if difference is None:
        return {**best, "exceeds_chance": None}
    # Beyond chance by the paired interval, and beyond the best of as many guesses.
    exceeds = sign * difference > 0
    maximum: Row = {}
    if select != "split":
        maximum = _maximum(best, result, n_blocks)
        beyond = maximum.get("chance_max_high" if sign > 0 else "chance_max_low")
        exceeds = exceeds and (beyond is None or sign * (best[result.metric] - beyond) > 0)
    return {**best, **maximum, "exceeds_chance": bool(exceeds)}


def _maximum(best: Row, result: Result, n_blocks: int) -> Row:
    """chance_max of `beside_chance`: simulated maxima of normal draws, with the mean and the spread
    of each random predictor's draws; {} where no predictor is random.
    """
    kind = chance_kind_of(result.chance, best["kind"])
    rows = [row for row in result.chance if is_summary(row) and row["kind"] == kind]
    random = [row for row in rows if "draws_sd" in row and row.get(result.metric) is not None]
    if not random:
        return {}
    sign = 1 if result.higher_is_better else -1
    rng = np.random.default_rng(result.config.get("seed", 0))
    level = sign * best["chance"]
    maxima = np.full(MAXIMA, level)
    # Each random predictor could give the highest of the blocks' guesses.
    for row in random:
        # The maximum of so many uniform numbers is a power of one of them.
        highest = _normal_quantile(rng.random(MAXIMA) ** (1 / n_blocks))
        # Their mean is known from a few draws alone.
        error = rng.normal(size=MAXIMA) / np.sqrt(row["draws"])
        maxima = np.maximum(maxima, sign * row[result.metric] + row["draws_sd"] * (highest + error))
    # The interval in which most of such bests lie; its ends swap where lower is better.
    low, high = np.quantile(maxima, [0.025, 0.975])
    ends = sorted((sign * float(low), sign * float(high)))
    return {
        "chance_max": sign * float(maxima.mean()),
        "chance_max_low": ends[0],
        "chance_max_high": ends[1],
    }


def _normal_quantile(shares: Array) -> Array:
    from scipy.special import ndtri

    return np.asarray(ndtri(shares))

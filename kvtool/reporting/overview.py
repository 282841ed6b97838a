"""The first screen's figures: the paper's table 1 as a picture, and its figure 2, each task's best
block of every layer, all tasks on one pair of axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kvtool.reporting.axes import Axis, Tick
from kvtool.reporting.chance import chance_level
from kvtool.reporting.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    ChartLine,
    Dot,
    LineChart,
    layer_ticks,
)
from kvtool.reporting.heatmap import cell_label
from kvtool.reporting.measures import plain_name, short_measure
from kvtool.reporting.numbers import in_percent, interval, scale, show
from kvtool.reporting.sentences import baseline_name, leading_baselines
from kvtool.result import Result, Row, best_row, block_name, is_summary

WITHOUT_CUT = "auroc"
"""The measure without a cut by which figure 2 has tasks whose cut masks are no better than chance.
"""

WAY_TICKS = ((0.0, "chance"), (0.25, "0.25"), (0.5, "0.5"), (0.75, "0.75"), (1.0, "best"))
TASKS_OF_MATCHING = ("semantic-correspondence", "temporal-correspondence")
"""Tasks whose lines are dashed: the right half of the paper's figure 2."""


@dataclass(frozen=True)
class ScoreMark:
    """A score with its interval, in percent of the width, and what it is."""

    position: float
    low: float | None
    high: float | None
    style: str
    tip: str


@dataclass(frozen=True)
class ScoreTrack:
    """A task of the picture of scores: its marks, and the best block's score as text."""

    name: str
    note: str
    marks: list[ScoreMark]
    text: str


@dataclass(frozen=True)
class ScoreTracks:
    """Best blocks, baselines and chance of all tasks on one axis; legend: (name, style)."""

    rows: list[ScoreTrack]
    ticks: list[Tick]
    legend: list[tuple[str, str]]


@dataclass(frozen=True)
class LayersFigure:
    """All tasks over layers, and the names of those that could not be drawn."""

    chart: LineChart
    left_out: list[str]


def leading_probes(results: Sequence[Result]) -> list[Result]:
    """Return the probes of the model that has most of them, without texts before its images."""
    probes = [
        result
        for result in results
        if result.command == "probe"
        and result.best is not None
        and result.best.get(result.metric) is not None
        and result.config.get("prefix") in (None, "none")
    ]
    # One picture is of one model: the one that has most probes.
    counts = Counter(result.config.get("model") for result in probes)
    leader = max(counts, key=lambda model: counts[model], default=None)
    return [result for result in probes if result.config.get("model") == leader]


def task_name(result: Result) -> str:
    """Return a probe's task in words."""
    return (result.task or "").replace("-", " ").replace("co seg", "co-seg").capitalize()


def data_name(result: Result, results: Sequence[Result]) -> str:
    """Return what tells a probe's data from that of others of its task: its data set, or its split;
    "" where there are no others."""
    data = [probe.config.get("dataset") for probe in results if probe.task == result.task]
    if len(data) < 2:
        return ""
    name = str(result.config.get("dataset"))
    return str(result.config.get("split")) if data.count(name) > 1 else name


def score_tracks(probes: Sequence[Result]) -> ScoreTracks | None:
    """Return the picture of scores, of the probes that are in percent; None where there is none."""
    results = [result for result in probes if in_percent(result)]
    lines = [list(_scores(result)) for result in results]
    ends = [
        scale(result) * float(end)
        for result, scores in zip(results, lines, strict=True)
        for _, _, row in scores
        for name in ("", "_low", "_high")
        if (end := row.get(result.metric + name)) is not None
    ]
    if not ends:
        return None
    axis = Axis(min(0.0, *ends), max(ends) * 1.04, 0.0, 100.0)
    rows = [
        ScoreTrack(
            task_name(result),
            " · ".join(filter(None, [data_name(result, results), short_measure(result.metric)])),
            [_mark(result, axis, *score) for score in scores],
            interval(result, result.best or {}),
        )
        for result, scores in zip(results, lines, strict=True)
    ]
    legend = dict.fromkeys((name, style) for scores in lines for name, style, _ in scores)
    return ScoreTracks(rows, axis.ticks(6), list(legend))


def _scores(result: Result) -> Iterator[tuple[str, str, Row]]:
    """Yield name, style and row of the best block, the baselines, and what knows nothing."""
    best = result.best or {}
    yield f"best {best.get('kind')}", "k-best", best
    for row in leading_baselines(result):
        is_other = row.get("run") not in (None, result.config.get("run"))
        owner = f" of {row.get('model') or row['run']}" if is_other else ""
        kind = {"vision": "vision tower"}.get(row["kind"], row["kind"])
        yield f"{kind}{owner}", f"k-{row['kind']}{'-other' * is_other}", row
    level = chance_level(result)
    if level is not None and level[1].get(result.metric) is not None:
        yield "chance", "k-chance", level[1] | {"title": level[0]}


def _mark(result: Result, axis: Axis, name: str, style: str, row: Row) -> ScoreMark:
    """Return a score's mark."""
    ends = (row.get(result.metric + end) for end in ("", "_low", "_high"))
    value, low, high = (None if end is None else axis(scale(result) * end) for end in ends)
    if "title" in row:
        title = row["title"]
    elif style == "k-best":
        title = f"{name}: {block_name(row)}"
    else:
        title = baseline_name(result, row).removeprefix("the ")
    return ScoreMark(value or 0.0, low, high, style, f"{title}, {interval(result, row)}")


def layers_figure(probes: Sequence[Result]) -> LayersFigure | None:
    """Return all tasks over layers; None where fewer than two can be drawn.

    A score stands as its way from chance (0) to the best of all layers (1), since tasks differ in
    what both are. Where the best block's masks are no better than chance, its AUROC stands for it,
    which has no cut; where that cannot be told from chance either, the task is left out.
    """
    names = [", ".join(filter(None, [task_name(r), data_name(r, probes)])) for r in probes]
    lines = [(name, _course_of(result)) for name, result in zip(names, probes, strict=True)]
    courses = [(name, course) for name, course in lines if course is not None]
    layers = sorted({int(row["layer"]) for _, course in courses for row in course.rows})
    if len(courses) < 2 or len(layers) < 2:
        return None
    # Ways may go below 0: a layer can be worse than chance.
    shares = [course.share(row) for _, course in courses for row in course.rows]
    x = Axis(layers[0] - 0.3, layers[-1] + 0.3, LEFT, WIDTH - RIGHT)
    y = Axis(min(0.0, *shares) - 0.02, 1.06, HEIGHT - BOTTOM, TOP)
    chart_lines = [_line(name, index, course, x, y) for index, (name, course) in enumerate(courses)]
    ticks = [Tick(y(share), text) for share, text in WAY_TICKS]
    label = "Tasks over layers, from chance to the best: " + "; ".join(name for name, _ in courses)
    title = "Tasks over layers"
    chart = LineChart(chart_lines, layer_ticks(layers, x), ticks, "layer", "", label, title)
    return LayersFigure(chart, [name for name, course in lines if course is None])


@dataclass(frozen=True)
class _Course:
    """The best rows of each layer by a measure, and what is chance and best of it."""

    result: Result
    rows: list[Row]
    chance: float
    best: float

    def share(self, row: Row) -> float:
        """Return how far a row is on the way from chance to the best."""
        return (float(row[self.result.metric]) - self.chance) / (self.best - self.chance)


def _course_of(result: Result) -> _Course | None:
    """Return a task's way over layers by its own measure, else by AUROC; None where neither is
    better than chance."""
    if (result.best or {}).get("exceeds_chance") is not False:
        course = _measured(result)
        if course is not None:
            return course
    has_companion = bool(result.rows) and WITHOUT_CUT in result.rows[0]
    if not has_companion:
        return None
    return _measured(replace(result, metric=WITHOUT_CUT, higher_is_better=True))


def _measured(result: Result) -> _Course | None:
    """Return the way by a result's metric; None where the best cannot be told from chance."""
    level = chance_level(result)
    kind = (result.best or {}).get("kind")
    layers: dict[int, list[Row]] = {}
    for row in result.rows:
        if is_summary(row) and row.get("kind") == kind and row.get(result.metric) is not None:
            layers.setdefault(int(row["layer"]), []).append(row)
    # Of each layer its best head stands for it.
    bests = [best_row(rows, result.metric, result.higher_is_better) for rows in layers.values()]
    rows = sorted((row for row in bests if row is not None), key=lambda row: int(row["layer"]))
    best = best_row(rows, result.metric, result.higher_is_better)
    if level is None or best is None or level[1].get(result.metric) is None:
        return None
    chance = float(level[1][result.metric])
    facing = "_low" if result.higher_is_better else "_high"
    # The end of the interval that faces chance decides whether a course is drawn.
    nearest = float(best.get(result.metric + facing, best[result.metric]) or best[result.metric])
    is_better = nearest > chance if result.higher_is_better else nearest < chance
    return _Course(result, rows, chance, float(best[result.metric])) if is_better else None


def _line(name: str, index: int, course: _Course, x: Axis, y: Axis) -> ChartLine:
    """Return a task's line, whose points say scores."""
    result = course.result
    ends = f"chance ({show(result, course.chance)}) to the best ({show(result, course.best)})"
    dots = [
        Dot(
            x(row["layer"]),
            y(course.share(row)),
            f"{name}, {plain_name(result.metric)}: {cell_label(result, row)}; "
            f"{course.share(row):.2f} of the way from {ends}",
        )
        for row in course.rows
    ]
    path = "M" + " L".join(f"{dot.x} {dot.y}" for dot in dots)
    is_matching = str(result.task) in TASKS_OF_MATCHING
    style = f"m{index % 8}{' dashed' * is_matching}"
    return ChartLine(f"{name}, {short_measure(result.metric)}", style, path, "", dots)

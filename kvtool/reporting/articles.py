"""Results as articles of the page: what each shows, by its command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kvtool.reporting import charts, sentences
from kvtool.reporting.heatmap import heatmap
from kvtool.reporting.numbers import in_percent, model_name, plural, scale
from kvtool.reporting.study import Drawn, Kept, Study
from kvtool.reporting.tables import Data, Table, label_table, plain_table, scores_table
from kvtool.reporting.terminal import block_name
from kvtool.reporting.trimming import trim
from kvtool.result import LABELS, Result, Row, best_row, is_summary, metric_names

STYLES = {"value": "s-value", "key": "s-key", "projected": "s-projected", "vision": "s-vision"}
MASKS_LEGEND = "Filled: what the block predicts. White line: the ground truth."
LEGENDS = {
    "semantic-correspondence": "Green, whole lines: found within 0.1 of the object's box. Broken lines: not. "
    "White rings: where it is."
}
ITEMS_SHOWN = 24
"""Questions with their pictures; the CSV has all."""

CELLS = (
    ("both", "both right"),
    ("value_only", "values alone"),
    ("model_only", "the model alone"),
    ("neither", "neither"),
)


@dataclass(frozen=True)
class Article:
    """One result. id: of its element. rows: name in Data of all its rows. charts: what its template draws. blocks:
    what a script needs to show one block."""

    id: str
    template: str
    heading: str
    facts: list[tuple[str, str]]
    found: list[str]
    rows: str
    charts: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    blocks: Mapping[str, Any] | None = None


def build(position: int, study: Study, data: Data) -> Article:
    """The article of study.kept[position]; its rows go into `data`."""
    kept = study.kept[position]
    result = kept.result
    name = "-".join(str(word) for word in (result.command, result.task, kept.run) if word)
    rows, n_left_out = trim(result, [one.result for one in study.kept])
    article = Article(
        id=f"r{position}",
        template="plain.html",
        heading=model_name(result),
        facts=_facts(kept),
        found=sentences.of_result(result),
        rows=data.add(name, list(replace(result, rows=rows).flat_rows())),
        notes=_notes(result, n_left_out),
    )
    view = VIEWS.get(result.command, _plain)
    return view(article, position, study, data)


def _facts(kept: Kept) -> list[tuple[str, str]]:
    config, n = kept.result.config, kept.result.n
    split = f", {config['split']}" if config.get("split") else ""
    facts = [("run", kept.run), ("data", f"{config['dataset']}{split}" if config.get("dataset") else None)]
    facts += [("metric", kept.result.metric), ("n", str(n))]
    if kept.result.n_skipped:
        facts.append(("left out", str(kept.result.n_skipped)))
    return [(name, text) for name, text in facts if text]


def _notes(result: Result, n_left_out: int) -> list[str]:
    notes = [*result.skipped, *map(str, result.config.get("notes") or ())]
    if n_left_out:
        blocks = plural(n_left_out, "block")
        notes.append(
            f"The page has no room for the rows by category of {blocks} of lower score; --format csv prints all."
        )
    return notes


def _probe(article: Article, position: int, study: Study, data: Data) -> Article:
    result, examples = study.kept[position].result, study.examples.get(position, {})
    rows = [row for row in result.rows if is_summary(row) and "kv_head" in row]
    kinds = [kind for kind in dict.fromkeys(row["kind"] for row in rows) if _is_grid(rows, kind)]
    baselines = sentences.leading_baselines(result)
    series = [(kind, STYLES[kind], [r for r in result.per_layer if r["kind"] == kind]) for kind in kinds]
    levels = [(_baseline(result, row), _level_style(result, row), row) for row in baselines]
    best = [] if result.best is None else [(f"best: {block_name(result.best)}", result.best)]
    named = [*best, *((_baseline(result, row), row) for row in baselines)]
    scored = [row for _, row in named]
    tables = [scores_table(result, named, "Best block and baselines", data.add(f"{article.rows}-best", scored))]
    if result.per_layer:
        of_layers = [(block_name(row), row) for row in result.per_layer]
        name = data.add(f"{article.rows}-per-layer", result.per_layer)
        tables.append(scores_table(result, of_layers, "Best block of each layer", name))
    return replace(
        article,
        template="probe.html",
        charts={
            "heatmaps": [heatmap(result, kind, [r for r in rows if r["kind"] == kind]) for kind in kinds],
            "curve": charts.layers_chart(result, series, levels) if any(len(of) > 1 for _, _, of in series) else None,
        },
        tables=tables,
        blocks=_blocks(result, examples),
    )


def _is_grid(rows: Sequence[Row], kind: str) -> bool:
    return len({(row["layer"], row["kv_head"]) for row in rows if row["kind"] == kind}) > 1


def _baseline(result: Result, row: Row) -> str:
    return sentences.baseline_name(result, row).removeprefix("the ")


def _level_style(result: Result, row: Row) -> str:
    other = row.get("run") not in (None, result.config.get("run"))
    return STYLES.get(row["kind"], "s-other") + (" s-dashed" if other else "")


def _blocks(result: Result, examples: Mapping[Any, list[Drawn]]) -> dict[str, Any]:
    """What the script shows of a block that was clicked: how to write its numbers, and its pictures."""
    first = next((row for row in result.rows if metric_names(row)), {})
    best = None if result.best is None else [result.best[name] for name in ("kind", "layer", "kv_head")]
    return {
        "metric": result.metric,
        "metrics": metric_names(first),
        "labels": [name for name in LABELS if any(row.get(name) is not None for row in result.rows)],
        "scale": scale(result),
        "percent": in_percent(result),
        "best": best,
        "legend": LEGENDS.get(str(result.task), MASKS_LEGEND),
        "examples": {"/".join(map(str, block)): [vars(one) for one in drawn] for block, drawn in examples.items()},
    }


def _variance(article: Article, position: int, study: Study, data: Data) -> Article:
    result = study.kept[position].result
    about = result.config.get("distribution") or {}
    marks = [("mode", place, "m-mode") for place in about.get("modes") or ()]
    threshold = result.config.get("threshold")
    marks += [("cut", threshold, "m-cut")] if threshold else []
    kind = result.config.get("kind", "key")
    groups = result.config.get("groups") or []
    tables = [plain_table(groups, "By layers", data.add(f"{article.rows}-groups", groups))] if groups else []
    drawn = None
    if about.get("counts") and max(about["counts"]):
        drawn = charts.histogram(about["bin_edges"], about["counts"], marks, f"L2 variance of a {kind} block")
    return replace(
        article,
        template="variance.html",
        charts={
            "histogram": drawn,
            "heatmaps": [heatmap(result, kind, result.rows, logarithmic=True)] if result.rows else [],
            "sheets": study.sheets.get(position, []),
        },
        tables=tables,
        blocks=_blocks(result, {}) | {"best": None},
    )


def _conditions(article: Article, position: int, study: Study, data: Data) -> Article:
    """knockout and prefix: conditions side by side with their intervals."""
    result = study.kept[position].result
    rows = sentences.condition_rows(result)
    named = [(_condition_name(row), row, "s-key" if row["condition"] == "none" else "s-value") for row in rows]
    drawn = charts.whiskers(result, named, result.metric, f"{result.metric}, 95 % intervals")
    summary = [(name, row) for name, row, _ in named]
    tables = [scores_table(result, summary, "Conditions", data.add(f"{article.rows}-conditions", rows))]
    parts = [row for row in result.rows if row not in rows]
    if parts:
        tables.append(label_table(result, parts, "By part", data.add(f"{article.rows}-parts", parts)))
    return replace(article, template="conditions.html", charts={"whiskers": drawn}, tables=tables)


def _condition_name(row: Row) -> str:
    of_heads = "n_heads" in row and row["condition"] != "none"
    words = [sentences.condition(row) if of_heads else str(row["condition"])]
    words += [f"{row['choice']} block"] if row.get("choice") else []
    words += [block_name({**row, "condition": None, "choice": None})] if row.get("kind") else []
    words += [plural(row["n_heads"], "head")] if row.get("n_heads") else []
    return ", ".join(words)


def _paired(article: Article, position: int, study: Study, data: Data) -> Article:
    result = study.kept[position].result
    row = result.best or best_row(result.rows, "value") or {}
    ends = ("", "_low", "_high")
    of_cells = [
        (name, {f"share{end}": row.get(f"{field}{end}") for end in ends}, f"c-{field}")
        for field, name in CELLS
        if row.get(field) is not None
    ]
    drawn = charts.whiskers(result, of_cells, "share", f"{block_name(row)}: share of questions, %", bars=True)
    named = [(block_name(one), one) for one in result.rows]
    tables = [scores_table(result, named, "Blocks", article.rows)]
    known = [item for item in result.items if item.get("cell") == "value_only"]
    if result.items:
        data.add(f"{article.rows}-questions", result.items)
    return replace(
        article,
        template="paired.html",
        charts={
            "whiskers": drawn,
            "questions": [_question(item, study.kept[position], study) for item in known[:ITEMS_SHOWN]],
            "n_questions": len(known),
            "items": f"{article.rows}-questions" if result.items else None,
        },
        tables=tables,
    )


def _question(item: Row, kept: Kept, study: Study) -> dict[str, Any]:
    """A question, its answers and its pictures: marked ones where the result names them, else the images."""
    names = item.get("files") or item.get("images") or ()
    drawn = [study.thumbnails.get((kept.store, str(kept.run), str(name))) for name in names]
    return {**item, "drawn": [one for one in drawn if one is not None]}


def _correlate(article: Article, position: int, study: Study, data: Data) -> Article:
    result = study.kept[position].result
    models = [row for row in result.rows if "model" in row]
    rest = [row for row in result.rows if "coefficient" in row]
    tables = [
        plain_table(models, "Models", data.add(f"{article.rows}-models", models)),
        plain_table(rest, "Coefficients", data.add(f"{article.rows}-coefficients", rest)),
    ]
    drawn = charts.scatter(result, models, "segmentation", "accuracy", "model")
    shown = drawn if drawn.points else None
    return replace(article, template="correlate.html", charts={"scatter": shown}, tables=tables)


def _plain(article: Article, position: int, study: Study, _data: Data) -> Article:
    rows = study.kept[position].result.rows
    return replace(article, tables=[plain_table(rows, "Rows", article.rows)])


VIEWS: Mapping[str, Callable[[Article, int, Study, Data], Article]] = {
    "probe": _probe,
    "variance": _variance,
    "knockout": _conditions,
    "prefix": _conditions,
    "paired": _paired,
    "correlate": _correlate,
}

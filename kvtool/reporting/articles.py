"""Results as articles of the page: each experiment adds what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kvtool.pictures.thumbnails import Drawn
from kvtool.registry import experiment_part
from kvtool.reporting import sentences
from kvtool.reporting.commands import viewer_parts
from kvtool.reporting.numbers import (
    AREA_DECIMALS,
    in_percent,
    is_area,
    model_name,
    plural,
    scale,
    unit_mark,
)
from kvtool.reporting.sentences import sentences_of
from kvtool.reporting.study import Study
from kvtool.reporting.tables import Data, PageTable, plain_table
from kvtool.reporting.trimming import trim
from kvtool.result import LABELS, Result, Row, metric_names
from kvtool.tasks import TASKS
from kvtool.tasks.saved import drawing_of
from kvtool.types import Block

STYLES = {
    "value": "s-value",
    "key": "s-key",
    "projected": "s-projected",
    "vision": "s-vision",
    "hidden": "s-hidden",
}
MASKS_LEGEND = "Filled: what the block predicts. White line: the ground truth."
LEGENDS = {
    "masks": MASKS_LEGEND,
    "objects": MASKS_LEGEND,
    "matches": (
        "Green, whole lines: found within 0.1 of the object's box. Broken lines: not. "
        "White rings: where it is."
    ),
}
"""What the marks in a task's pictures mean, by what is drawn; a task that draws itself has no
marks of ours."""


@dataclass(frozen=True)
class Article:
    """One result on the page.

    Args:
        id: the id of its element.
        template: the name of its template.
        heading: its heading.
        run: the name of its run; "" for several or none.
        findings: its sentences, of which the first n_leads stand open.
        rows: the name in Data of all its rows.
        charts: what its template draws.
        tables: its tables.
        notes: its notes.
        blocks: what a script needs to show one block.
        n_leads: how many sentences stand open.
    """

    id: str
    template: str
    heading: str
    run: str
    findings: list[str]
    rows: str
    charts: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[PageTable] = ()
    notes: Sequence[str] = ()
    blocks: Mapping[str, Any] | None = None
    n_leads: int = 1


def build(position: int, study: Study, data: Data) -> Article:
    """Return the article of study.kept[position]; its rows go into `data`."""
    stored = study.kept[position]
    result = stored.result
    name = "-".join(str(part) for part in (result.command, result.task, stored.run) if part)
    # Rows by category of many blocks may not fit the page.
    rows, n_left_out = trim(result, [entry.result for entry in study.kept])
    article = Article(
        id=f"r{position}",
        template="plain.html",
        heading=model_name(result),
        run=stored.run or "",
        findings=sentences_of(result),
        rows=data.add(name, list(replace(result, rows=rows).flat_rows())),
        notes=_notes(result, n_left_out),
    )
    # An experiment adds its figures to what all articles have; one without a part stays plain.
    make = getattr(experiment_part(result.command, "article"), "article", _plain)
    article = make(article, position, study, data)
    if article.blocks is None:
        return article
    viewer = viewer_parts(stored, study.info(stored))
    maps = {"maps": list(map(vars, study.maps.get(position, ())))}
    # The script opens the viewer at the block that was clicked, with what is known of the run.
    return replace(article, blocks={**article.blocks, **maps, "viewer": viewer})


def _notes(result: Result, n_left_out: int) -> list[str]:
    notes = [*result.skipped, *map(str, result.config.get("notes") or ())]
    if n_left_out:
        blocks = plural(n_left_out, "block")
        notes.append(
            f"The page has no room for the rows by category of {blocks} of lower score; --format "
            "csv prints all."
        )
    return notes


def is_grid(rows: Sequence[Row], kind: str) -> bool:
    """Tell whether a kind has more than one block."""
    return len({(row["layer"], row["kv_head"]) for row in rows if row["kind"] == kind}) > 1


def baseline_label(result: Result, row: Row) -> str:
    """Return the name of a baseline without its article."""
    return sentences.baseline_name(result, row).removeprefix("the ")


def level_style(result: Result, row: Row) -> str:
    """Return the style of a baseline's level: that of its kind, dashed for another run."""
    is_other_run = row.get("run") not in (None, result.config.get("run"))
    return STYLES.get(row["kind"], "s-other") + (" s-dashed" if is_other_run else "")


def clickable_blocks(result: Result, examples: Mapping[Block, list[Drawn]]) -> dict[str, Any]:
    """Return what the script shows of a block that was clicked: number formats and pictures."""
    first = next((row for row in result.rows if metric_names(row)), {})
    best = None
    if result.best is not None:
        best = [result.best[name] for name in ("kind", "layer", "kv_head")]
    return {
        "metric": result.metric,
        "metrics": metric_names(first),
        "labels": [
            name for name in LABELS if any(row.get(name) is not None for row in result.rows)
        ],
        "formats": {name: _format(result, name) for name in metric_names(first)},
        "best": best,
        "legend": LEGENDS.get(drawing_of(TASKS.usable().get(str(result.task))) or "", ""),
        "examples": {
            f"{block.kind}/{block.layer}/{block.kv_head}": list(map(vars, pictures))
            for block, pictures in examples.items()
        },
    }


def _format(result: Result, metric: str) -> dict[str, Any]:
    """Return how the script writes a metric: its factor, decimals (null: four digits) and unit."""
    decimals = 1 if in_percent(result, metric) else AREA_DECIMALS if is_area(metric) else None
    return {
        "scale": scale(result, metric),
        "decimals": decimals,
        "unit": unit_mark(result, metric),
    }


def _plain(article: Article, position: int, study: Study, _data: Data) -> Article:
    rows = study.kept[position].result.rows
    return replace(article, tables=[plain_table(rows, "Rows", article.rows)])

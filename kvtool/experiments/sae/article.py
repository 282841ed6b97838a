"""The page's article about an SAE on image tokens: the measures over layers, what they say of
alignment, and what features stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvtool.demo.weights import DEMO
from kvtool.experiments.sae.overlaid import OVERLAY_CAPTION as OVERLAY_CAPTION
from kvtool.experiments.sae.overlaid import overlay as overlay
from kvtool.experiments.sae.overlaid import overlay_key as overlay_key
from kvtool.experiments.sae.series import (
    CONTROLS,
    IMAGE,
    TEXT,
    aligned_since,
    alignment,
    best_image,
    condition_rows,
    control_range,
    exceeds_chance,
    is_defined,
    is_number,
    layer_interval,
    series_of,
    sought,
)
from kvtool.reporting import chapters, charts
from kvtool.reporting.articles import Article
from kvtool.reporting.commands import flags, request_flags
from kvtool.reporting.numbers import interval, show, words
from kvtool.reporting.panels import CaptionedChart, panels_of
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, PageTable, plain_table
from kvtool.result import Result, Row

CHAPTER = chapters.LANGUAGE
TITLE = "Image tokens in the features of language"

CHARTS = (
    ("fvu", "Share of the variance that the SAE does not give back (fvu)", True),
    ("l0", "Active features of a token (l0)", True),
    ("norm_ratio", "Length of the vectors over that of the text's", True),
    ("transfer", "Transfer: features chosen on words find their patches (AUROC)", False),
    ("directions", "Word directions find their patches, without an SAE (AUROC)", False),
)
"""The measures drawn over layers, their captions, and whether a wide range is logarithmic."""
CHANCE: Row = {"transfer": 0.5, "directions": 0.5}
COLUMNS = ("fvu", "l0", "norm_ratio", "transfer", "directions", "match", "median_rank")
BESIDE_TEXT = ("fvu", "l0")
"""What the table has of the text, beside the image's."""


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of SAEs on image tokens."""
    result = study.kept[position].result
    rows = _layer_rows(result)
    captioned = dict(_charts(result))
    face = captioned.pop(sought(result), None)
    return replace(
        summary,
        template="sae.html",
        charts={
            "face": panels_of([] if face is None else [face]),
            "panels": panels_of(list(captioned.values())),
            "cards": study.cards.get(position, []),
        },
        tables=[
            _layers_table(result, rows, data.add(f"{summary.rows}-layers", rows)),
            plain_table(result.rows, "All conditions", summary.rows),
        ],
    )


def _charts(result: Result) -> Iterator[tuple[str, CaptionedChart]]:
    """Yield a chart for each measure that is defined in some row, of the lines that have it."""
    for field, caption, is_logarithmic in CHARTS:
        lines = [
            (line.name, _style(line.condition), list(line.rows))
            for line in series_of(result)
            if any(is_number(row.get(field)) for row in line.rows)
        ]
        if not lines:
            continue
        by_field = replace(result, metric=field, unit=field)
        levels = [("chance", "s-other s-dashed", CHANCE)] if field in CHANCE else []
        chart = charts.layers_chart(by_field, lines, levels, is_logarithmic=is_logarithmic)
        yield field, CaptionedChart(caption, replace(chart, y_name=""))


def _style(condition: str) -> str:
    """Return the class of a condition's line: its color and its dashes."""
    return f"t-{condition.split(':')[0]}"


def _layer_rows(result: Result) -> list[Row]:
    """Return the rows of the image's tokens, and in each of them the text's error and number of
    features, and the range of the controls, in its layer by its SAE."""
    field = sought(result)
    blocks: dict[tuple[int, Any], list[Row]] = {}
    for row in result.rows:
        blocks.setdefault((row["layer"], row.get("sae")), []).append(row)
    rows = []
    for neighbors in blocks.values():
        text = next(iter(condition_rows(neighbors, TEXT)), {})
        beside = {f"text_{name}": text.get(name) for name in BESIDE_TEXT}
        lowest, highest = control_range(neighbors, field) or (None, None)
        beside |= {f"controls_{field}_min": lowest, f"controls_{field}_max": highest}
        rows += [row | beside for row in condition_rows(neighbors, IMAGE)]
    return rows


def _layers_table(result: Result, rows: Sequence[Row], data: str) -> PageTable:
    """Return the image's tokens layer by layer, beside the text's error and what controls reach."""
    field = sought(result)
    names = [name for name in COLUMNS if is_defined(result, name)]
    text_names = [name for name in BESIDE_TEXT if is_defined(result, name)]
    cells = [
        [
            _layer_name(row),
            *(interval(result, row, name) for name in names),
            *(show(result, row[f"text_{name}"]) for name in text_names),
            _range(result, field, row[f"controls_{field}_min"], row[f"controls_{field}_max"]),
        ]
        for row in rows
    ]
    text_columns = [f"{name} of text" for name in text_names]
    columns = ["layer", *names, *text_columns, f"{field} of controls"]
    return PageTable("The image's tokens, layer by layer", columns, cells, data)


def _layer_name(row: Row) -> str:
    return " · ".join(words(row[name]) for name in ("layer", "sae") if row.get(name) is not None)


def _range(result: Result, field: str, lowest: float | None, highest: float | None) -> str:
    """Say a range of a field's numbers; "-" where there is none."""
    ends = (show(result, end, metric=field) for end in (lowest, highest))
    return " to ".join(ends) if lowest is not None else "-"


def _half(result: Result) -> str:
    """Return chance as the scores beside it are written."""
    return show(result, CHANCE[sought(result)], metric=sought(result))


def alignment_words(result: Result) -> str | None:
    """Say the layer from which words find their patches; None where it was not computed."""
    field = sought(result)
    entry = alignment(result, field)
    if entry is None:
        return None
    return f"layer of alignment by {field}: {layer_interval(entry)}"


def controls_words(result: Result) -> str | None:
    """Say what the controls reach; None where none was run."""
    field = sought(result)
    ends = control_range(result.rows, field)
    return None if ends is None else f"{field} of controls: {_range(result, field, *ends)}"


def headline(results: Sequence[Result]) -> str | None:
    """Say the first sentence about the first model that SAEs were made for."""
    return found_patches(results[0]) if len(results) > 1 else None


def sentences(result: Result) -> Iterator[str]:
    """Say what the study shows, a sentence each: whether words find their patches, and what an
    error that falls is worth."""
    yield found_patches(result)
    if (line := falling_error(result)) is not None:
        yield line
    if (line := own_captions(result)) is not None:
        yield line


def found_patches(result: Result) -> str:
    """Say whether what stands for words in text finds their patches, and from which layer on."""
    field = sought(result)
    best = best_image(result)
    subject = "Features chosen on words alone" if field == "transfer" else "Word directions"
    if best is None:
        return (
            f"Whether image tokens are aligned is not known: {field} needs captions, and masks or "
            "boxes of what they name."
        )
    n_layers = len({row["layer"] for row in condition_rows(result.rows, IMAGE)})
    choice = f", the best of {n_layers}" if n_layers > 1 else ""
    score = f"AUROC {interval(result, best, field)} in layer {best['layer']}{choice}"
    ends = control_range(result.rows, field)
    chance = f"chance is {_half(result)}"
    notes = "; ".join(filter(None, [aligned_since(result), _controls(result, ends), chance]))
    if exceeds_chance(best, field, ends):
        return f"{subject} find the patches of these words: {score} ({notes})."
    return (
        f"{subject} do not find the patches of these words better than chance: {score} ({notes})."
    )


def _controls(result: Result, ends: tuple[float, float] | None) -> str:
    """Say what the controls reach, in the middle of a sentence."""
    if ends is None:
        return "no control was run"
    return f"controls: {_range(result, sought(result), *ends)}"


def falling_error(result: Result) -> str | None:
    """Say how the error goes from the first layer to the last, with pictures and without; None
    where no error was measured."""
    changes = {
        line.condition: change
        for line in series_of(result)
        if not line.number and (change := _change(line.rows)) is not None
    }
    if IMAGE not in changes:
        return None
    warning = "A falling error or number of active features alone is no evidence of alignment"
    controls = [name for name in CONTROLS if name in changes]
    if not controls:
        return f"{warning}, and no control was run beside it."
    told = [f"{name} {_arrow(result, changes[name])}" for name in (IMAGE, *controls)]
    return f"{warning}: from the first layer to the last fvu goes {', '.join(told)}."


def _change(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return the error of the first and the last layer; None of fewer than two."""
    errors = [row["fvu"] for row in rows if is_number(row.get("fvu"))]
    return (errors[0], errors[-1]) if len(errors) > 1 else None


def _arrow(result: Result, change: tuple[float, float]) -> str:
    return f"{show(result, change[0])} to {show(result, change[1])}"


def own_captions(result: Result) -> str | None:
    """Say how often an image's strongest features fire on its own caption, beside chance."""
    rows = [row for row in condition_rows(result.rows, IMAGE) if is_number(row.get("match"))]
    if not rows:
        return None
    row = max(rows, key=lambda row: float(row.get("lift") or row["match"]))
    return (
        f"Of the images a share of {interval(result, row, 'match')} has one of its three strongest "
        f"features fire on its own caption in layer {row['layer']}; with captions of others "
        f"{show(result, row.get('match_chance'))}."
    )


DEFAULTS: dict[str, Any] = {
    "tokens": 64,
    "max_presence": 0.05,
    "max_density": 0.005,
    "outlier": 10.0,
    "seed": 0,
    "descriptions": None,
    "match_by": "lexical",
    "embedder": None,
    "judge": None,
}
"""The options that are flags of their own, with their defaults."""
SHIPPED = "demo/saes"
"""Where the package has the SAEs that are named demo."""


def command(stored: KeptResult, config: Mapping[str, Any], info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    arguments = ["sae", stored.store, *flags({"run": config.get("run")})]
    for path in sae_paths(config.get("sae")):
        arguments += ["--sae", path]
    layers = config.get("layers")
    is_narrowed = info is None or layers != info["layers"]
    request = {"layers": layers if is_narrowed else None, "limit": config.get("limit")}
    # Text and image are always among the conditions.
    request["conditions"] = [
        name for name in config.get("conditions") or () if name not in (TEXT, IMAGE)
    ] or None
    values = {name: config.get(name) for name in DEFAULTS}
    if values["descriptions"] == DEMO:
        # They are read with the shipped SAEs, without being asked for.
        values["descriptions"] = None
    return arguments + request_flags(request) + flags(values, DEFAULTS)


def sae_paths(saes: Any) -> list[str]:
    """Return how SAEs are named on a command line: demo, none, a template for files that differ in
    the number of their layer alone, else each file."""
    if not isinstance(saes, list):
        return [str(saes)]
    paths = [str(sae["path"]) for sae in saes]
    if all(SHIPPED in Path(path).as_posix() for path in paths):
        return ["demo"]
    templates = dict.fromkeys(
        re.sub(rf"(layers?[._-]?){sae['layer']}(?!\d)", r"\1{layer}", path)
        for sae, path in zip(saes, paths, strict=True)
    )
    return list(templates) if len(templates) < len(paths) else paths

"""What a result of `sae` has over layers: its conditions as lines, its controls, and the layer from
which image tokens are aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from kvtool.experiments.sae.alignment import CHANCE
from kvtool.result import Result, Row, best_row

TEXT = "text"
IMAGE = "image"
CONTROLS = ("other-image", "random", "random-norm", "untrained", "noise-residual")
"""Conditions that cannot be aligned: what they reach is chance, whatever the measure says of the
image."""
SOUGHT = ("transfer", "directions")
"""How well words find their patches: with features of an SAE, else with directions of words."""

EXCEEDS = "*"
"""Marks transfer that `exceeds_chance`, in the table and in what explains it."""
ENDS = ("layer", "low", "high")


@dataclass(frozen=True)
class ConditionRows:
    """The rows of a condition over layers, of one run and the number-th SAE of every layer."""

    condition: str
    run: str
    number: int
    name: str
    rows: Sequence[Row]


def series_of(result: Result) -> list[ConditionRows]:
    """Return a line for each condition, text and image first, and for each run and SAE where there
    are several.

    A layer's first SAE belongs with every other layer's first, the second with the second: files
    are named by their layer and so never alike.
    """
    groups: dict[tuple[str, str, int], list[Row]] = {}
    names: dict[tuple[str, Any], list[str]] = {}
    for row in result.rows:
        run = str(row.get("run", ""))
        layer_names = names.setdefault((run, row["layer"]), [])
        name = str(row.get("sae", ""))
        if name not in layer_names:
            layer_names.append(name)
        # By its rank within the layer, since names differ from layer to layer.
        key = str(row["condition"]), run, layer_names.index(name)
        groups.setdefault(key, []).append(row)
    runs = {run for _, run, _ in groups}
    has_several = any(len(layer_names) > 1 for layer_names in names.values())
    lines = []
    for (condition, run, number), rows in groups.items():
        parts = [condition, run if len(runs) > 1 else ""]
        parts.append(str(rows[0].get("sae", "")) if has_several else "")
        ordered = sorted(rows, key=lambda row: int(row["layer"]))
        lines.append(ConditionRows(condition, run, number, ", ".join(filter(None, parts)), ordered))
    first = [TEXT, IMAGE]
    return sorted(
        lines, key=lambda line: first.index(line.condition) if line.condition in first else 2
    )


def is_defined(result: Result, field: str) -> bool:
    """Tell whether any row has a number for a measure."""
    return any(is_number(row.get(field)) for row in result.rows)


def is_number(value: Any) -> bool:
    """Tell whether a measure is defined: neither missing nor NaN."""
    return value is not None and isfinite(value)


def sought(result: Result) -> str:
    """Return the field that says how well words find their patches: `transfer` where an SAE was
    used, else `directions`."""
    return next((field for field in SOUGHT if is_defined(result, field)), SOUGHT[0])


def condition_rows(rows: Sequence[Row], *conditions: str) -> list[Row]:
    """Return the rows of some conditions."""
    return [row for row in rows if row["condition"] in conditions]


def best_image(result: Result) -> Row | None:
    """Return the row of the image tokens whose words find their patches best."""
    return best_row(condition_rows(result.rows, IMAGE), sought(result))


def control_range(rows: Sequence[Row], field: str) -> tuple[float, float] | None:
    """Return the lowest and the highest of a measure over the controls among rows; None without
    any."""
    values = [row.get(field) for row in condition_rows(rows, *CONTROLS)]
    numbers = [float(value) for value in values if value is not None and isfinite(value)]
    return (min(numbers), max(numbers)) if numbers else None


def exceeds_chance(image: Row, field: str, ends: tuple[float, float] | None) -> bool:
    """Tell whether the interval of an image's row lies above chance and above the value of every
    control.

    ends: The lowest and the highest of the controls' values; None where no control was run.
    """
    low = image.get(f"{field}_low")
    highest = CHANCE if ends is None else max(CHANCE, ends[1])
    return low is not None and is_number(low) and low > highest


def alignment(result: Result, by: str) -> Row | None:
    """Return the layer of alignment by one measure with its interval, as the study computed it:
    `layer` is None where no layer is; None where it was not asked."""
    entries = result.config.get("alignment_layer") or []
    if isinstance(entries, dict):
        return entries.get(by)
    return next((entry for entry in entries if entry.get("by") == by), None)


def layer_interval(entry: Row) -> str:
    """Say a layer of alignment with its interval, of which an end may be none: "3 [2, none]"."""
    layer, low, high = ("none" if entry[name] is None else str(entry[name]) for name in ENDS)
    return layer if entry["layer"] is None else f"{layer} [{low}, {high}]"


def aligned_since(result: Result) -> str | None:
    """Say from which layer on words find their patches nearly as well as in the best one; None
    where it was not computed."""
    entry = alignment(result, sought(result))
    if entry is None:
        return None
    if entry["layer"] is None:
        return "in the last layer no longer near that"
    return f"near that from layer {layer_interval(entry)} on"

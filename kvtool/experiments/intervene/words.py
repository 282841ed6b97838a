"""What a result of `kvtool intervene` is made of: its conditions, and what they are called."""

from __future__ import annotations

from dataclasses import replace

from kvtool.reporting.condition_names import condition_name
from kvtool.reporting.numbers import plural
from kvtool.result import Result, Row, part_label

ACTIONS = {
    "block": "blocking the image",
    "scale": "attention on the image times {:g}",
    "redistribute": "{percent:g} % of the sinks' attention given to other image tokens",
    "mean-key": "mean keys in place of the image's",
    "mean-value": "mean values in place of the image's",
    "contrast": "answers contrasted by {:g} with the image blocked",
    "temperature": "attention within the image at temperature {:g}",
}
"""Method -> what it does, in words, with its strength."""

CONTROLS = {"random": " at random", "dependent": " that depend on the input"}
"""Control -> which heads it has, after their number."""


def condition_rows(result: Result) -> list[Row]:
    """Return the rows about all questions; of several draws of a control their mean."""
    label = part_label(result.rows)
    return [row for row in result.rows if label not in row and row.get("draw", "all") == "all"]


def none_row(result: Result) -> Row:
    """Return the row of the model as it is."""
    return next(row for row in condition_rows(result) if row["condition"] == "none")


def method_rows(result: Result) -> list[Row]:
    """Return the rows of methods in the heads that were asked for, or chosen."""
    return [row for row in condition_rows(result) if row.get("method") and "control" not in row]


def control_rows(result: Result, row: Row) -> list[Row]:
    """Return the rows of a condition's controls, of several draws their mean."""
    names = {f"{row['condition']} {name}" for name in ("dependent", "random")}
    single = [control for control in result.rows if control["condition"] in names]
    rows = condition_rows(result)
    means = [control for control in rows if control["condition"] in names]
    label = part_label(result.rows)
    return means or [control for control in single if label not in control]


def action(row: Row) -> str:
    """Return what a condition does and in how many heads."""
    return f"{_change(row)} in {plural(row['n_heads'], 'head')} ({row['condition']})"


def label(row: Row) -> str:
    """Return the name of a condition in a figure, e.g. "blocking the image, 2 heads at random"."""
    if row.get("method") is None:
        return condition_name(row)
    control = CONTROLS.get(str(row.get("control")), "")
    draw = "" if row.get("draw", "all") == "all" else f", draw {row['draw']}"
    return f"{_change(row)}, {plural(row['n_heads'], 'head')}{control}{draw}"


def legend(result: Result) -> str:
    """Say what the conditions of a table do: each method, and whose heads a control has."""
    rows = [row for row in condition_rows(result) if row.get("method")]
    methods = {str(row["condition"]): _change(row) for row in rows if "control" not in row}
    lines = [f"{name}: {words}" for name, words in methods.items()]
    controls = dict.fromkeys(str(row["control"]) for row in rows if "control" in row)
    lines += [f"{name}: the same in as many heads{CONTROLS[name]}" for name in controls]
    return "\n".join(lines)


def _change(row: Row) -> str:
    """Return what a condition changes, with its strength."""
    words = ACTIONS[row["method"]]
    strength = row.get("strength")
    return words if strength is None else words.format(strength, percent=100 * strength)


def of_margins(result: Result) -> Result:
    """Return the result with margins as its metric, in nats."""
    return replace(result, metric="margin_change", unit="nats")


def has_margins(result: Result) -> bool:
    """Tell whether questions have options, whose margins are known."""
    return any("margin" in row for row in result.rows)

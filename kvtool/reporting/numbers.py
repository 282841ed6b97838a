"""The one formatter of numbers, for tables, pictures and the page, and what intervals allow one to
say."""

from __future__ import annotations

import math
from typing import Any, Literal

from kvtool.display import shorten
from kvtool.result import Result, Row

AREA = "auroc"
"""Part of the names of areas under a ROC curve: shares of pairs, of which 0.5 is chance, and which
are no percentages anywhere."""
AREAS = ("transfer", "directions")
"""Areas under a ROC curve whose names do not say so."""
AREA_DECIMALS = 3
SUMS_OF_PERCENTAGES = ("score", "total", "mme*")
"""MME's scores: sums of two percentages and means and sums of these, up to 200 and beyond."""

LEAST_P = 0.0001
"""Of a p below it no digits are told."""

Relation = Literal["above", "below", "not distinguishable", "without an interval"]


def show(result: Result, value: float | None, sign: str = "", metric: str | None = None) -> str:
    """Return a metric in percent with one decimal, or in its unit with four digits; an area under a
    ROC curve with three decimals; "-" where it is not defined.

    Args:
        result: What the metric is of.
        value: Its number.
        sign: "+" to write it before what is above 0, as differences have it. There is no -0.0.
        metric: The metric's name; None is the primary one.
    """
    if value is None or math.isnan(value):
        return "-"
    if in_percent(result, metric):
        return f"{round(scale(result, metric) * value, 1) + 0.0:{sign}.1f}"
    if is_area(metric or result.metric):
        return f"{value + 0.0:{sign}.{AREA_DECIMALS}f}"
    return f"{value + 0.0:{sign}.4g}"


def is_area(metric: str) -> bool:
    """Tell whether a metric is an area under a ROC curve."""
    return AREA in metric or metric in AREAS


def in_percent(result: Result, metric: str | None = None) -> bool:
    """Tell whether a metric, by default the primary one, is shown in percent."""
    return result.unit in ("fraction", "percent") and not is_area(metric or result.metric)


def scale(result: Result, metric: str | None = None) -> int:
    """Return the factor from a metric's number to what is shown."""
    return 100 if result.unit == "fraction" and in_percent(result, metric) else 1


def unit_word(result: Result, metric: str | None = None) -> str:
    """Return the unit that follows a number of a metric, by default the primary one: "%", "m"; ""
    where it has none but its own name."""
    metric = metric or result.metric
    if result.unit == "percent" and metric in SUMS_OF_PERCENTAGES:
        return "points"
    if in_percent(result, metric):
        return "%"
    if is_area(metric):
        return ""
    return "" if result.unit == metric else result.unit


def unit_mark(result: Result, metric: str | None = None) -> str:
    """Return what follows a metric's name: ", %", ", m"; by default of the primary metric."""
    word = unit_word(result, metric)
    return f", {word}" if word else ""


def better(result: Result) -> Relation:
    """Return where a better score lies: above, of an error below."""
    return "above" if result.higher_is_better else "below"


def interval(result: Result, row: Row, name: str | None = None) -> str:
    """Return "46.1 [45.2, 47.0]"; the value alone where the row has no interval."""
    name = name or result.metric
    value, low, high = (row.get(field) for field in (name, f"{name}_low", f"{name}_high"))
    if value is None or low is None or high is None:
        return show(result, value, metric=name)
    middle, first, last = (show(result, end, metric=name) for end in (value, low, high))
    return f"{middle} [{first}, {last}]"


def amount(result: Result, row: Row, name: str | None = None) -> str:
    """Return a metric with its interval and its unit: "46.1 [45.2, 47.0] %"."""
    return f"{interval(result, row, name)} {unit_word(result, name)}".rstrip()


def gap(result: Result, row: Row, name: str = "difference") -> str:
    """Return a difference of two scores with its interval and its unit."""
    return f"{interval(result, row, name)} {gap_unit(result)}".rstrip()


def gap_unit(result: Result) -> str:
    """Return the unit of a difference of two scores: of percentages it is no percentage."""
    word = unit_word(result)
    return "percentage points" if word == "%" else word


def relation(first: Row, second: Row, name: str) -> Relation:
    """Return what two 95 % intervals say of two scores: apart, or not."""
    low = first.get(f"{name}_low")
    high = first.get(f"{name}_high")
    other_low = second.get(f"{name}_low")
    other_high = second.get(f"{name}_high")
    if low is None or high is None or other_low is None or other_high is None:
        return "without an interval"
    # Intervals that are apart tell two scores apart; overlapping ones tell nothing.
    if low > other_high:
        return "above"
    return "below" if high < other_low else "not distinguishable"


def p_value(p: float) -> str:
    """Return a test's p with three decimals, with four below 0.001, and no smaller one."""
    if p >= 0.001:
        return f"{p:.3f}"
    return f"{p:.4f}" if p >= LEAST_P else f"< {LEAST_P}"


def probability(p: float) -> str:
    """Return a test's p as in "p = 0.022", "p < 0.0001"."""
    return f"p {'= ' * (p >= LEAST_P)}{p_value(p)}"


def model_name(result: Result) -> str:
    """Return the model, and the texts before its images where there were some."""
    config = result.config
    name = str(config.get("model") or config.get("run") or result.command)
    if config.get("prefix") not in (None, "none"):
        name += f", prefix {config['prefix']}"
    return f"{name}, system {shorten(config['system'], 40)}" if config.get("system") else name


def plural(count: int, singular: str, many: str | None = None) -> str:
    """Return a count with its noun: "1 key", "2 keys"."""
    return f"{count} {singular if count == 1 else many or singular + 's'}"


def capitalized(text: str) -> str:
    """Return the text with a capital at its start."""
    return text[:1].upper() + text[1:]


def ranges(numbers: list[int]) -> str:
    """Return [0, 1, 2, 5] as "0-2,5", as commands take it."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def words(value: Any) -> str:
    """Return a field's value for a table cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value))
    return str(value)

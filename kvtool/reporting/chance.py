"""What knows nothing gets, beside the scores: its rows, its level in curves and maps, and the one
sentence about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvtool.metrics.ranking import COMPANIONS
from kvtool.reporting.condition_names import condition_name
from kvtool.reporting.numbers import (
    amount,
    better,
    capitalized,
    gap,
    interval,
    show,
    unit_word,
)
from kvtool.result import Result, Row, best_row, chance_kind_of, is_summary

NO_BETTER = "no better than chance"


def guess_rows(result: Result) -> list[tuple[str, Row]]:
    """Return what each predictor that knows nothing gets on all units, with its name."""
    kind = chance_kind_of(result.chance, (result.best or {}).get("kind"))
    return [
        (f"chance, {row['predictor']}", row)
        for row in result.chance
        if row.get("kind") == kind and is_summary(row)
    ]


def chance_level(result: Result, metric: str | None = None) -> tuple[str, Row] | None:
    """Return the best of what knows nothing by a metric, with its name, if there is any."""
    metric = metric or result.metric
    rows = guess_rows(result)
    if metric in COMPANIONS:
        # Of a map that is constant they are known, and a random one only strays from them.
        rows = [(name, row) for name, row in rows if row["draws"] == 1] or rows
    best = best_row([row for _, row in rows], metric, result.higher_is_better)
    return next(((name, row) for name, row in rows if row is best), None)


def companions(result: Result) -> list[str]:
    """Return the measures without a cut that a result's rows have."""
    return [name for name in COMPANIONS if result.rows and name in result.rows[0]]


def is_no_better(result: Result) -> bool:
    """Tell whether the best block does not exceed what knows nothing gets."""
    return (result.best or {}).get("exceeds_chance") is False


def level_row(result: Result, rows: Sequence[Row]) -> tuple[str, Row] | None:
    """Return the first chance level that rows say, as a row of its own, with its name."""
    row = next((row for row in rows if row.get("chance") is not None), None)
    if row is None:
        return None
    level = {result.metric + end: row.get(f"chance{end}") for end in ("", "_low", "_high")}
    return f"chance, {row['chance_kind']}", level


def conditions_against_chance(
    result: Result, rows: Sequence[Row], label: Callable[[Row], str] = condition_name
) -> str | None:
    """Say which conditions exceed what knows nothing gets; None where nothing is known.

    Args:
        result: the result.
        rows: a row of each condition.
        label: returns the name of a row's condition, as the figure has it.
    """
    level = level_row(result, rows)
    if level is None:
        return None
    name, guess = level
    text = f"{capitalized(name)}: {amount(result, guess)}"
    maximum = next((row["chance_max"] for row in rows if row.get("chance_max") is not None), None)
    if maximum is not None:
        expected = f"{show(result, maximum)} {unit_word(result)}".rstrip()
        text += f"; the best of as many blocks that know nothing would get {expected}"
    sides = {
        verdict: [label(row) for row in rows if row.get("exceeds_chance") is verdict]
        for verdict in (True, False)
    }
    verdicts = []
    # Where all conditions are on one side, one sentence says it of all.
    if bool(sides[True]) != bool(sides[False]) and len(rows) > 1:
        side = f"{better(result)} chance" if sides[True] else NO_BETTER
        return f"{text}. All conditions are {side}."
    if sides[True]:
        verdicts.append(f"{better(result)} chance: {', '.join(sides[True])}")
    if sides[False]:
        verdicts.append(f"{NO_BETTER}: {', '.join(sides[False])}")
    return ". ".join([text, *map(capitalized, verdicts)]) + "."


def chance_of(result: Result, row: Row, name: str = "chance") -> str | None:
    """Return a row's chance level in words, with its interval; None where it is not known."""
    if row.get(name) is None:
        return None
    unit = unit_word(result)
    return f"{row[f'{name}_kind']}, {interval(result, row, name)} {unit}".rstrip()


def chance_interval(result: Result, row: Row) -> str:
    """Return a row's chance level with its interval."""
    return interval(result, row, "chance")


def against_chance(result: Result) -> str | None:
    """Say whether the best block exceeds what knows nothing gets; None where nothing is known."""
    best = result.best
    if best is None or best.get("chance") is None or best.get(result.metric) is None:
        return None
    unit = unit_word(result)
    what = f"{best['chance_kind']}, {chance_interval(result, best)} {unit}".rstrip()
    # Chance is about the units of the half on which the block was scored.
    if best.get("select") == "split":
        what += f" on the same {best['n']}"
    if (maximum := best.get("chance_max")) is not None:
        expected = f"{show(result, maximum)} {unit}".rstrip()
        what += f"; the best of as many blocks that know nothing would get {expected}"
    match best.get("exceeds_chance"):
        case True:
            difference = gap(result, best, "chance_difference")
            return f"It is {better(result)} chance ({what}); the difference is {difference}."
        case False:
            return f"It is {NO_BETTER} ({what})."
    return f"Chance: {what}; without an interval nothing is said of a difference."

"""What a paired comparison of two runs says, in a sentence: for its own article, and where another
one sets the same two runs side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvtool.reporting.chance import chance_of
from kvtool.reporting.numbers import capitalized, gap, probability, show, unit_word
from kvtool.result import Result, Row, block_name

SURE = 0.05
"""The p, corrected for several runs, below which two runs are said to differ."""


def best_rows(result: Result) -> list[Row]:
    """Return the rows that set a run's best block beside the first run's."""
    return [row for row in result.rows if row.get("choice") == "best"]


def block_rows(result: Result, run: str, kind: str | None = None) -> list[Row]:
    """Return the rows of the blocks that a run has in common with the first one."""
    return [
        row
        for row in result.rows
        if row.get("choice") == "block"
        and row["run"] == run
        and (kind is None or row["kind"] == kind)
    ]


def base_block(row: Row) -> str:
    """Return the first run's block in words."""
    return block_name({name: row.get(f"base_{name}") for name in ("kind", "layer", "kv_head")})


def differs(row: Row) -> bool:
    """Tell whether a row's two blocks differ by their p, corrected for all rows of the kind."""
    return row.get("holm_p") is not None and row["holm_p"] < SURE


def paired_sentence(result: Result, row: Row) -> str:
    """Say how a run's best block compares with the first run's: a difference only by its p."""
    ours = f"the best block of {row['run']} ({block_name({**row, 'choice': None})})"
    base = f"that of {row['base']} ({base_block(row)})"
    # Each sentence says no more than interval and corrected test allow.
    value = row.get("difference")
    if value is None:
        return f"Nothing is known of the difference of {ours} and {base}."
    difference = f"{gap(result, row)}, paired over {row['n']} units"
    if row.get("holm_p") is None:
        return f"{capitalized(ours)} differs from {base} by {difference}; nothing more can be said."
    test = f"{difference}, {probability(row['holm_p'])}"
    if not differs(row):
        return f"{capitalized(ours)} cannot be told from {base}: {test}."
    side = "above" if value > 0 else "below"
    unit = unit_word(result)
    scores = f"{show(result, row[result.metric])} against {show(result, row['base_score'])} {unit}"
    return f"{capitalized(ours)} is {side} {base}: {scores.rstrip()}, difference {test}."


def chance_sentence(result: Result, row: Row) -> str | None:
    """Say what knows nothing gets on the grids of both blocks of a row; None where it is not
    known."""
    ours, base = chance_of(result, row), chance_of(result, row, "base_chance")
    if ours is None or base is None:
        return None
    if ours == base:
        return f"Chance for both: {ours}."
    return f"Chance: {ours} for {row['run']}; {base} for {row['base']}."


def comparisons(
    compared: Sequence[Result], result: Result, run: str, kind: str | None = None
) -> Iterator[str]:
    """Yield the sentences of comparisons of a result's run with another one, on its task and data.

    Args:
        compared: the comparisons that there are.
        result: the result.
        run: the other run.
        kind: the kind of the other run's best block, by default any.
    """
    runs = {str(result.config.get("run")), run}
    for comparison in compared:
        # A comparison on other data says nothing of these two results.
        same_data = all(
            comparison.config.get(key) == result.config.get(key) for key in ("dataset", "split")
        )
        if comparison.task != result.task or not same_data:
            continue
        for row in best_rows(comparison):
            block_kind = row["kind"] if row["run"] == run else row["base_kind"]
            if {row["run"], row["base"]} == runs and kind in (None, block_kind):
                yield paired_sentence(comparison, row)

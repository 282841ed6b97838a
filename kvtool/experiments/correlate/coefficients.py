"""Pearson's and Spearman's coefficients over the models, and why some are not defined."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import numpy as np

from kvtool.result import Row
from kvtool.stats.correlation import Correlation, pearson, spearman
from kvtool.stats.multiple import with_holm

FEWEST = 3
"""Two models always lie on a line."""
POOLED = "all"
"""The family of coefficients over all models."""
TOLERANCE = 1e-12
"""Scores closer than this differ by rounding alone."""


def correlations(rows: Sequence[Row], pooled: bool) -> tuple[list[Row], list[str]]:
    """Return a row for each family and coefficient, and notes on what is not defined.

    The paper's argument is about sizes and versions of one kind of model: between families much
    else differs. Only where `pooled` is set, there are rows of all models together too, with the
    family "all". The p of several families stand beside Holm's, corrected for their number.
    """
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(str(row["family"]), []).append(row)
    coefficients: list[Row] = []
    notes: list[str] = []
    for family, members in families.items():
        name = "" if len(families) == 1 else f" of {family}"
        family_rows, undefined = _within(members, name)
        coefficients += [{"family": family, **row} for row in family_rows]
        notes += undefined
    # Corrected for the number of families before the pooled rows join, which are no test of a
    # family.
    coefficients = with_holm(coefficients, "p", "holm_p", lambda row: row["coefficient"])
    if pooled:
        together, undefined = _within(rows, " of all families")
        coefficients += [{"family": POOLED, **row} for row in together]
        notes += undefined
    elif len(families) > 1 and not coefficients:
        notes.append(f"{len(rows)} models of {len(families)} families are not pooled unless asked")
    return coefficients, notes


def _within(rows: Sequence[Row], family: str) -> tuple[list[Row], list[str]]:
    """Return a row for each coefficient over the models' rows, and notes on what is not defined.

    There is no coefficient of too few models. `family` says in notes whose they are.
    """
    # Two models lie on a line whatever they are.
    n = len(rows)
    if n < FEWEST:
        return [], [
            f"no coefficient{family}: expected {FEWEST} models or more, found {n}; extract more of "
            "them"
        ]
    names = ("segmentation", "accuracy")
    # A model is one point: how well its values segment, and how well it answers.
    x, y = (np.array([row[name] for row in rows], np.float64) for name in names)
    coefficients = {"pearson": pearson(x, y), "spearman": spearman(x, y)}
    # A score that is the same for all models goes with nothing.
    constant = [
        name for name, scores in zip(names, (x, y), strict=True) if np.ptp(scores) < TOLERANCE
    ]
    notes = [f"no coefficient: {name} is the same for all {n} models{family}" for name in constant]
    if not notes and n == FEWEST:
        notes = [
            f"no interval of a coefficient{family}: expected {FEWEST + 1} models or more, found {n}"
        ]
    elif not notes:
        # Pearson's interval is not defined where the coefficient is 1 or -1.
        perfect = [name for name, coefficient in coefficients.items() if isnan(coefficient.low)]
        notes = [
            f"no interval of {name}: all {n} models{family} lie on it, which says nothing of its "
            "spread"
            for name in perfect
        ]
    return [_coefficient(name, coefficient) for name, coefficient in coefficients.items()], notes


def _coefficient(name: str, coefficient: Correlation) -> Row:
    """Return a coefficient's row; a number that is not defined is null."""
    value, low, high, p = (None if isnan(number) else number for number in coefficient[:4])
    return {
        "coefficient": name,
        "value": value,
        "value_low": low,
        "value_high": high,
        "p": p,
        "n": coefficient.n,
    }

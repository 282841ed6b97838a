"""The table that benchmarks print."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from tests.bench.rows import Row, met


def table_of(rows: Iterable[Row]) -> Table:
    """Return the table of some rows: both sides, their ratio, and whether its target is met."""
    table = Table("benchmark", "unit", "ours", "peer", "ratio", "target", "")
    for row in rows:
        sign = ">=" if row["better"] == "higher" else "<="
        table.add_row(
            row["name"],
            row["unit"],
            *(f"{number:.4g}" for number in (row["ours"], row["peer"], row["ratio"])),
            f"{sign} {row['target']:.3g}",
            "met" if met(row) else "MISSED",
        )
    return table

"""What planted models score, and what a correlation says of them."""

from __future__ import annotations

from kvtool.result import Result, Row


def expected_score(n_wrong: int) -> float:
    """Of 12 images with 11 counted foreground and 36 background patches."""
    return (132 / (132 + 2 * n_wrong) + (432 - 2 * n_wrong) / 432) / 2


def coefficients_of(result: Result) -> dict[str, Row]:
    return {row["coefficient"]: row for row in result.rows if "coefficient" in row}

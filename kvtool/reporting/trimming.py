"""The rows that a page has room for: rows by category of many blocks would take tens of
megabytes."""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.result import Result, Row, is_summary

MOST_CELLS = 500_000
"""Values of all rows of a page, about 18 bytes each."""


def trim(result: Result, results: Sequence[Result]) -> tuple[list[Row], int]:
    """Return the rows of one result that a page has room for, and the number of blocks whose rows
    by label are left out.

    All rows, where those of all `results` fit together. Else each result has an equal share: its
    summary rows, and the others block by block, the best score first. The order of the rows stays.
    """
    if sum(map(_count_cells, results)) <= MOST_CELLS:
        return result.rows, 0
    # Summary rows are always shown: the room left is for the rows by label.
    room = MOST_CELLS // len(results) - sum(len(row) for row in result.rows if is_summary(row))
    ranked = result.ranked([row for row in result.rows if is_summary(row)])
    ranks = {_block(row): rank for rank, row in enumerate(ranked)}
    sizes: dict[tuple[object, ...], int] = {}
    for row in result.rows:
        if not is_summary(row):
            sizes[_block(row)] = sizes.get(_block(row), 0) + len(row)
    out = set()
    # Whole blocks are left out, never a part of one's categories.
    for block in sorted(sizes, key=lambda block: ranks.get(block, len(ranks))):
        room -= sizes[block]
        if room < 0:
            out.add(block)
    return [row for row in result.rows if is_summary(row) or _block(row) not in out], len(out)


def _count_cells(result: Result) -> int:
    return sum(map(len, result.rows))


def _block(row: Row) -> tuple[object, ...]:
    return row.get("kind"), row.get("layer"), row.get("kv_head")

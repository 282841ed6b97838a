"""The viewer's budget in docs/serve.md: `python -m tests.bench.budget` writes it anew.

It reads build/bench.json, which `python -m tests.bench viewer` makes on a machine that is idle.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.__main__ import OUT
from tests.bench.rows import Row, met
from tests.tools.source import ROOT

PAGE = ROOT / "docs" / "serve.md"
TITLE = "| what | takes, ms | budget, ms | |\n|---|---:|---:|---|\n"
TABLE = re.compile(re.escape(TITLE) + r"(?:\|.*\n)*")
NAME = re.compile(r"viewer: (?P<what>.+) / \d+ ms")


def table_of(rows: Sequence[Row]) -> str:
    """Return the table of the viewer's rows. Raises ValueError where there are none."""
    lines = []
    for row in rows:
        name = NAME.fullmatch(row["name"])
        if name is not None:
            outcome = "" if met(row) else "missed"
            lines.append(
                f"| {name['what']} | {row['ours']:.0f} | {row['peer']:.0f} | {outcome} |\n"
            )
    if not lines:
        raise ValueError("no row of the viewer: run python -m tests.bench viewer first")
    return TITLE + "".join(lines)


def written(page: str, rows: Sequence[Row]) -> str:
    """Return a page with the table of these rows in place of the one that it has."""
    text, count = TABLE.subn(table_of(rows), page)
    if count != 1:
        raise ValueError(f"expected one table of the budget in {PAGE.name}, found {count}")
    return text


def main(path: Path = OUT) -> int:
    """Write the table; the exit code is 2 without figures."""
    try:
        text = written(PAGE.read_text(encoding="utf-8"), json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

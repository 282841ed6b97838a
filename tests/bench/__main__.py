"""`make bench`: run every benchmark, print a table, write build/bench.json.

Names as arguments choose some.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console

from tests.bench.rows import Row
from tests.bench.table import table_of

OUT = Path("build/bench.json")


def modules() -> list[str]:
    return sorted(
        path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")
    )


def main(names: list[str]) -> None:
    rows: list[Row] = []
    for name in names or modules():
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        rows += import_module(f"tests.bench.bench_{name}").bench()
    OUT.parent.mkdir(exist_ok=True)
    # Where some were named, rows of the others stay as they were.
    names_now = {row["name"] for row in rows}
    before = json.loads(OUT.read_text()) if names and OUT.exists() else []
    former = [row for row in before if row["name"] not in names_now]
    OUT.write_text(json.dumps(former + rows, indent=2) + "\n")
    Console().print(table_of(rows))
    print(f"written to {OUT}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])

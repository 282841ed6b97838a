"""What every command prints, as text: `python -m tests.tools.snapshots` writes it again.

tests/snapshots/NAME.COLUMNS.txt is what a terminal of so many columns shows of the screen NAME of
tests/support/screens.py; a test compares them line by line. Look at the difference before it is
committed: it is what users will see.

`python -m tests.tools.snapshots STORE` takes the results in tests/snapshots/results from the store
of a whole `kvtool demo` first; that is needed only where results have new fields.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvtool.reporting.study import choose
from kvtool.result import Result
from kvtool.store.keeping import results
from tests.support.screens import FROZEN, SCREENS, SNAPSHOTS, WIDTHS, Stage, file_name

LAYERS = 2
"""Layers of a result that are kept, besides that of its best block."""
DIGITS = 5
"""Significant digits of the numbers that are kept."""
WITH_ITEMS = ("average", "prefix")
"""Commands that show their items on a terminal."""
CONDITION_COMMANDS = ("prefix", "compare")
"""Commands whose rows are each about another condition or run, of a block of its own."""
DEMO_RESULTS: dict[str, Callable[[Result], bool]] = {
    "probe": lambda result: _is_of(result, "probe", "semantic-correspondence"),
    "variance": lambda result: _is_of(result, "variance", None),
    "knockout": lambda result: _is_of(result, "knockout", "mme") and "each" not in result.config,
    "knockout-each": lambda result: bool(result.config.get("each")),
    "prefix": lambda result: _is_of(result, "prefix", "referring-expression"),
    "paired": lambda result: _is_of(result, "paired", "art-style"),
    "correlate": lambda result: result.command == "correlate",
    "average": lambda result: result.command == "average",
    "compare": lambda result: result.command == "compare",
    "sae": lambda result: result.command == "sae" and result.metric == "fvu",
    "sae-directions": lambda result: result.command == "sae" and result.metric != "fvu",
    "lens": lambda result: result.command == "lens",
    "attend": lambda result: _is_of(result, "attend", None),
    "attend-sinks": lambda result: _is_of(result, "attend", "sinks"),
    "surface": lambda result: _is_of(result, "surface", "art-style"),
    "intervene": lambda result: result.command == "intervene",
}
"""The results that are taken, by the names of their files."""


def _is_of(result: Result, command: str, task: str | None) -> bool:
    """Tell whether a result is a command's on a task, of the shipped model without a prefix."""
    config = result.config
    is_plain = config.get("model") == "demo" and config.get("prefix") in (None, "none")
    return is_plain and (result.command, result.task) == (command, task)


def freeze(store: Path) -> None:
    """Take the results of a demo's store, as small as they can be and still be shown."""
    stored_results = choose(("demo", record) for record in results(store))
    FROZEN.mkdir(parents=True, exist_ok=True)
    for name, is_wanted in DEMO_RESULTS.items():
        result = next(entry.result for entry in stored_results if is_wanted(entry.result))
        record = rounded(trimmed(result).to_json())
        text = json.dumps(record, ensure_ascii=False, sort_keys=True, indent=0)
        (FROZEN / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


def trimmed(result: Result) -> Result:
    """Return a result without parts, items and most layers, and without versions."""
    layers = {*range(LAYERS), (result.best or {}).get("layer")}
    rows = result.rows if result.command == "prefix" else result.summarized().rows
    if result.command not in CONDITION_COMMANDS:
        rows = [row for row in rows if row.get("layer", 0) in layers]
    chance = [row for row in result.chance if not row.get("category")]
    items = result.items if result.command in WITH_ITEMS else []
    return replace(result, rows=rows, chance=chance, items=items, per_layer=[], versions={})


def rounded(value: Any) -> Any:
    """Return a JSON value with numbers of few digits."""
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return list(map(rounded, value))
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write() -> None:
    """Write every snapshot, and remove those of screens that are gone."""
    snapshots = {}
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        for name, screen in SCREENS.items():
            for width in WIDTHS:
                snapshots[file_name(name, width)] = stage.shown(screen, width)
    for path in SNAPSHOTS.glob("*.txt"):
        if path.name not in snapshots:
            path.unlink()
    for name, text in snapshots.items():
        (SNAPSHOTS / name).write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Write results of the store that was named, if any, and all snapshots."""
    if arguments:
        freeze(Path(arguments[0]))
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

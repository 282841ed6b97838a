"""Which fields of results and rows docs/output.md describes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kvtool.result import metric_names

DOCS = Path(__file__).parents[2] / "docs/output.md"


def documented() -> set[str]:
    """Names in the first column of the tables of docs/output.md."""
    return set(re.findall(r"^\| `([^`]+)` \|", DOCS.read_text(), re.MULTILINE))


def assert_documented(record: dict[str, Any]) -> None:
    """Every field of a result as JSON stands in docs/output.md."""
    names = documented()
    metrics = set(re.findall(r"`([^`]+)`", DOCS.read_text()))
    assert set(record) <= names
    assert set(record["config"]) <= names
    for row in [*record["rows"], record["best"] or {}, *record["baselines"]]:
        scores = set(metric_names(row))
        assert scores <= metrics
        derived = {f"{name}{end}" for name in scores for end in ("_low", "_high")} | {
            f"chosen_{n}" for n in scores
        }
        assert set(row) - scores - derived <= names

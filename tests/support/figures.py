"""The figures of campaigns, as build/campaign.json has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Put the rows into a file of rows, in the place of those of the same names."""
    stored = json.loads(path.read_text()) if path.is_file() else []
    names = {row["name"] for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps([row for row in stored if row["name"] not in names] + rows, indent=1) + "\n"
    )

"""A short campaign of every kind of hostile input; `make fuzz` is the long one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fuzz import campaign

pytestmark = pytest.mark.slow

COUNTS = {
    "images": 150,
    "annotations": 150,
    "answers": 120,
    "stores": 60,
    "models": 25,
    "commands": 25,
}
FAULTS = ("lost", "doubled", "wrong", "tracebacks", "hangs", "memory")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="inputs are tried in forked processes")
@pytest.mark.parametrize("kind", COUNTS)
def test_hostile_input_is_one_line(kind: str, tmp_path: Path) -> None:
    (row,) = campaign(COUNTS[kind], seed=1, kinds=[kind], keep=tmp_path)
    assert row["tried"] == COUNTS[kind]
    assert not any(row[fault] for fault in FAULTS), json.loads(
        (tmp_path / "faults.json").read_text()
    )

"""kvtool data scenes as a shell sees it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kvtool.cli import app
from kvtool.cli.data import parse_names
from kvtool.errors import UsageError


def test_only_some_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["kvtool", "data", "scenes", str(tmp_path / "s"), "--only", "msrc, davis"]
    )
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert stop.value.code in (0, None)
    assert [json.loads(line)["dataset"] for line in capsys.readouterr().out.splitlines()] == [
        "msrc",
        "davis",
    ]
    assert sorted(path.name for path in (tmp_path / "s").iterdir() if path.is_dir()) == [
        "davis",
        "msrc",
    ]


@pytest.mark.parametrize("text", ["", " ", "msrc,", ",msrc", "msrc,,davis"])
def test_no_name_is_not_all_names(text: str) -> None:
    with pytest.raises(UsageError, match="--only: expected data sets such as msrc,davis; found"):
        parse_names(text)

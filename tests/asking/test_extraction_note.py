"""What is extracted for questions is said before it begins."""

from __future__ import annotations

from typing import Any

import pytest

from kvtool.asking import caches
from kvtool.engine import local
from kvtool.engine.outcome import Report
from kvtool.engine.plan import Job
from tests.support.messages import messages


def test_an_extraction_is_said_in_a_line_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report("study+mme", 60, n_before=12)

    def extract(*_: Any, begin: Any, **__: Any) -> Report:
        begin(report)
        return report

    monkeypatch.setattr(local, "extract", extract)
    with messages() as lines:
        caches._extract(Job("study.kv", "demo", "mme:MME"), "cpu", lambda *_: None)
    assert lines == ["extracting 48 images into run study+mme, to ask from their keys and values"]

"""The embedded scenes to ask about, and a refusal of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool.models
from tests.support.scenes import World


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("blink", "spair71k")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(kvtool.models, "load_model", refused)

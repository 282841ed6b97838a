"""Scenes to ask about, and a store of a tiny model over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool
import kvtool.models
from kvtool.store import Store
from tests.support.scenes import World


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("blink", "spair71k")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(kvtool.models, "load_model", refused)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, scenes: Path) -> Store:
    path = tmp_path_factory.mktemp("store") / "s.kv"
    for spec in (f"blink:{scenes}/blink/Art_Style@val", f"spair71k:{scenes}/spair71k"):
        kvtool.extract(path, model=str(tiny_model), dataset=spec, limit=36)
    return kvtool.open(path)

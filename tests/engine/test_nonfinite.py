"""A model whose activations leave float16's range: extraction names the layers, once, and says what
to do.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import kvtool
from kvtool.engine.nonfinite import OVERFLOW
from kvtool.engine.outcome import Report

LOUD = 1
"""The decoder's layer after which nothing fits into float16 (of three)."""


@pytest.fixture(scope="module")
def loud_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loud") / "model"
    shutil.copytree(tiny_model, folder)
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        for name in weights:
            if "language_model" in name and name.endswith(f"layers.{LOUD}.mlp.down_proj.weight"):
                weights[name] = weights[name] * (3e4 / weights[name].abs().max())
        save_file(weights, path, metadata={"format": "pt"})
    return folder


@pytest.fixture
def warnings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("kvtool"), "propagate", True)
    caplog.set_level(logging.WARNING, "kvtool")
    return caplog


@pytest.mark.slow
def test_an_overflow_is_told_once_and_again_by_who_finds_it_stored(
    tmp_path: Path, loud_model: Path, pictures: Path, warnings: pytest.LogCaptureFixture
) -> None:
    def extract() -> Report:
        return kvtool.extract(
            tmp_path / "s.kv",
            model=str(loud_model),
            dataset=f"folder:{pictures}",
            dtype="float16",
            limit=40,
            kinds=("value",),
        )

    report = extract()
    assert {layer for array, layer, _ in report.nonfinite if array == "value"} == {LOUD + 1}
    run = kvtool.open(tmp_path / "s.kv").run()
    assert len(run.parts()) == 2
    assert report.nonfinite == run.nonfinite()
    lines = [line for line in warnings.messages if "value: layer 2" in line]
    assert len(lines) == 1
    assert "all heads" in lines[0]
    assert lines[0].endswith(OVERFLOW)
    warnings.clear()
    assert extract().n_done == 0
    assert len([line for line in warnings.messages if "value: layer 2" in line]) == 1


@pytest.mark.slow
def test_bfloat16_holds_them_and_nothing_is_said(
    tmp_path: Path, loud_model: Path, pictures: Path, warnings: pytest.LogCaptureFixture
) -> None:
    report = kvtool.extract(
        tmp_path / "s.kv",
        model=str(loud_model),
        dataset=f"folder:{pictures}",
        limit=2,
        kinds=("value",),
    )
    assert report.nonfinite == {}
    assert not [line for line in warnings.messages if "finite" in line]

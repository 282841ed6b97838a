"""The kind saliency on the command line: asked for by extract, refused by what compares vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvtool
from tests.support import tiny
from tests.support.datasets import coco


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A model whose tower has a class token, and two images."""
    dataset = f"coco:{coco(tmp_path / 'coco')}"
    folder = str(tiny.clip(tmp_path / "model"))
    return ["--model", folder, "--dataset", dataset, "--limit", "2"]


@pytest.mark.slow
def test_extract_and_what_reads_its_run(
    tmp_path: Path, options: list[str], shell: Callable[..., Any]
) -> None:
    store = tmp_path / "s.kv"
    code, _, lines = shell("extract", store, *options, "--kinds", "saliency,vision")
    assert code == 0, lines
    run = kvtool.open(store).run()
    assert run.kinds == ("vision", "saliency")
    assert run.read("saliency", 2).values.shape == (sum(s.n_vision_tokens for s in run.samples), 1)
    code, output, _ = shell("store", "runs", store)
    assert code == 0
    assert "saliency" in output
    code, output, _ = shell("store", "verify", store)
    assert code == 0, output
    code, output, lines = shell("extract", store, *options, "--kinds", "saliency,vision")
    assert code == 0, lines


@pytest.mark.slow
def test_wrong_kinds(tmp_path: Path, options: list[str], shell: Callable[..., Any]) -> None:
    store = tmp_path / "s.kv"
    code, _, lines = shell("extract", store, *options, "--kinds", "saliency")
    assert (code, len(lines)) == (2, 1)
    assert "expected some of vision beside saliency, found it alone" in lines[0]
    code, _, lines = shell("extract", store, *options, "--kinds", "attention")
    assert (code, len(lines)) == (2, 1)
    assert "expected some of key, value, projected, vision, hidden, saliency" in lines[0]
    code, _, lines = shell("variance", store, "--kind", "saliency")
    assert code == 2

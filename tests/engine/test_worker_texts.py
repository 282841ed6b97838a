"""Text vectors that several workers of a run see lacking at once."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kvtool.engine.worker import write_texts
from kvtool.models.text_vectors import TextVectors
from kvtool.store import Run, open_store
from kvtool.store.locks import Owner
from kvtool.text_templates import DEFAULT
from tests.support.tasks.language import LAYERS, imagenet_run
from tests.support.units import DIM, HEADS

NAMES = ("cat", "dog")


class Model:
    """Counts how often it is run over texts."""

    def __init__(self) -> None:
        self.n_passes = 0

    def text_vectors(self, names: tuple[str, ...], *_: Any) -> TextVectors:
        self.n_passes += 1
        arrays = {
            "value": np.ones((len(names), LAYERS, HEADS, DIM), np.uint16),
            "projected": np.ones((len(names), 1, 1, 2 * DIM), np.uint16),
            "projected_mean": np.ones((len(names), 1, 1, 2 * DIM), np.uint16),
        }
        return TextVectors(arrays, [1] * len(names))


def test_texts_that_another_worker_committed_before_the_claim_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = imagenet_run(tmp_path)
    request = SimpleNamespace(layers=range(LAYERS), kinds=("value", "projected"))
    plan: Any = SimpleNamespace(texts=NAMES, text_template=DEFAULT, request=request)
    first, second = Model(), Model()
    claim = Run.claim

    def overtaken(self: Run, name: str) -> AbstractContextManager[Owner]:
        """Let another worker do the texts after this one saw that they lack."""
        monkeypatch.setattr(Run, "claim", claim)
        write_texts(plan, open_store(run.store).run(run.name), first)
        return self.claim(name)

    monkeypatch.setattr(Run, "claim", overtaken)
    write_texts(plan, run, second)
    assert (first.n_passes, second.n_passes) == (1, 0)
    assert not run.texts(DEFAULT).lacks(NAMES)

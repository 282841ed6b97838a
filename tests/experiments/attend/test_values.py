"""The block of values that objects are cut out by, beside attention: never one of NaNs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.asking.inquiries import Inquiry
from kvtool.datasets.refcoco import RefCoco
from kvtool.experiments.attend.segmentation import AttentionMasks, best_block
from kvtool.types import Kind
from tests.support.tasks.language import GRID, LAYERS, commit_texts, refcoco
from tests.support.units import DIM, HEADS, noise, sample, write_run


def test_a_score_that_is_none_is_never_the_best() -> None:
    scores = np.array([np.nan, 0.9, 0.2, 0.4, 0.4])
    assert best_block(scores, np.array([0, 3, 0, 0, 0])) == 3
    assert best_block(scores[:2], np.array([0, 1])) is None


@pytest.mark.parametrize(
    ("spoiled", "block"),
    [((), {"layer": 0, "kv_head": 0}), (("value",), {"layer": 1, "kv_head": 1})],
)
def test_a_block_of_values_that_are_not_finite_is_not_chosen(
    tmp_path: Path, spoiled: tuple[Kind, ...], block: dict[str, int]
) -> None:
    """Block (0, 0) cuts every object out, and (1, 1) all but one; a NaN spoils the first."""
    masks = refcoco(tmp_path / "data")
    dataset = RefCoco(tmp_path / "data")
    names = list(dataset.texts())
    texts = np.random.default_rng(2).normal(size=(len(names), LAYERS, HEADS, DIM))

    def fill(s: Any, layer: int, head: int) -> Any:
        if (layer, head) not in ((0, 0), (1, 1)) or (layer and s.index == 3):
            return noise(1)(s, layer, head)
        words = [n for n, name in enumerate(names) if name.startswith(f"thing {s.index} ")]
        vector = texts[words, layer, head].astype(np.float32).sum(axis=0)
        return np.where(masks[s.id].reshape(-1)[:, None], vector, -vector)

    refs = dataset.images()
    samples = [sample(ref.id, i, (GRID[1], GRID[0]), GRID) for i, ref in enumerate(refs)]
    run = write_run(
        *(tmp_path / "s.kv", "refcoco", "val", tmp_path / "data", samples, fill),
        layers=LAYERS,
        kinds=("value",),
        spoiled=spoiled,
    )
    commit_texts(run, names)
    attention = AttentionMasks(run, dataset, "cpu", 0)
    for expression in dataset.expressions():
        mask = masks[expression.image_id].astype(np.uint8)
        name = str(expression.sent_id)
        inquiry = Inquiry(name, expression.image_id, expression.text, mask=mask.copy)
        attention.add(inquiry, np.ones(7))
    outcome = attention.outcome(list(attention.counts))
    assert outcome is not None
    assert block.items() <= outcome["values"].items()

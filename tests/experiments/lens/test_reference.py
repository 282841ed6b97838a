"""Tiny real models end to end: rows equal what transformers' own pass gives, by the slow way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import kvtool
from kvtool.datasets import open_dataset
from kvtool.datasets.images import load_image
from kvtool.features.concepts import concept_labels
from kvtool.models import load_model
from kvtool.models.cache import watched
from tests.support import tiny
from tests.support.concepts import CONCEPTS, cats_and_dogs
from tests.support.tiny_words import word_id


def whole_pass(model: Any, prepared: Any) -> torch.Tensor:
    """The outputs of all layers at an image's tokens, (layer, token, hidden)."""
    outputs: list[torch.Tensor] = []
    with watched(dict.fromkeys(model.language_model.layers, outputs.append)):
        model.prefill([prepared])
    return torch.stack(outputs)[:, 0, prepared.sample.image_start :]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_rows_equal_a_slow_pass_over_the_pictures(tmp_path: Path, family: str) -> None:
    data = f"coco:{cats_and_dogs(tmp_path / 'coco', 6)}"
    folder = getattr(tiny, family)(tmp_path / "model")
    kvtool.extract(tmp_path / "s.kv", model=str(folder), dataset=data, dtype="float32")
    result = kvtool.lens(tmp_path / "s.kv", tokens="all", device="cpu")
    model: Any = load_model(str(folder), dtype="float32")
    dataset: Any = open_dataset(data)
    scores = []
    labels = []
    ranks = []
    pieces = [word_id(concept) for concept in CONCEPTS]
    for index, ref in enumerate(dataset.images()):
        prepared = model.prepare(load_image(ref), id=ref.id, index=index)
        span = prepared.sample.base()
        masks = dataset.concept_masks(ref.id)
        labels.append(np.stack([concept_labels(masks[name], span) for name in CONCEPTS], axis=1))
        with torch.inference_mode():
            states = whole_pass(model, prepared)[:, span.token_indices()]
            logits = model.net.lm_head(model.language_model.norm(states))
        scores.append(logits[:, :, pieces])
        above = logits[:, :, None] > logits[:, :, pieces][..., None]
        ranks.append(above.sum(dim=-1) + 1)
    joined = torch.cat(scores, dim=1).numpy()
    all_ranks = torch.cat(ranks, dim=1).numpy()
    truth = np.concatenate(labels)
    for row in (row for row in result.rows if row["measure"] == "lens"):
        areas, medians = [], []
        for column in range(len(CONCEPTS)):
            is_sure = truth[:, column] >= 0
            values = joined[row["layer"], is_sure, column]
            areas.append(roc_auc_score(truth[is_sure, column], values))
            medians.append(np.median(all_ranks[row["layer"], truth[:, column] == 1, column]))
        assert row["auroc"] == pytest.approx(np.mean(areas), abs=2e-3)
        assert row["rank"] == pytest.approx(np.median(medians), abs=0.6)
        assert row["auroc_low"] <= row["auroc_high"]
    directions = [row for row in result.rows if row["measure"] == "directions"]
    assert [row["layer"] for row in directions] == [0, 1, 2]
    assert all(0 < row["auroc"] < 1 and 0 < row["text"] <= 1 for row in directions)


@pytest.mark.slow
def test_streams_that_are_stored_give_what_computed_ones_give(tmp_path: Path) -> None:
    data = f"coco:{cats_and_dogs(tmp_path / 'coco', 4)}"
    folder = tiny.llava_onevision(tmp_path / "model")
    options: dict[str, Any] = {"model": str(folder), "dataset": data}
    store = tmp_path / "s.kv"
    computed = kvtool.lens(_run(store, **options))
    stored = kvtool.lens(_run(store, kinds=["hidden"], layers=[0, 2], **options))
    assert [row["layer"] for row in stored.rows if row["measure"] == "lens"] == [0, 2]
    by_layer = {(row["layer"], row["measure"]): row for row in computed.rows}
    for row in stored.rows:
        assert row == by_layer[row["layer"], row["measure"]]


def _run(store: Path, **options: Any) -> Any:
    report = kvtool.extract(store, **options)
    return kvtool.open(store).run(report.run)

"""What kvtool.search finds, against a double loop over every patch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kvtool
from kvtool.errors import KvtoolError, UsageError
from kvtool.features.neighbors import Metric, nearest
from kvtool.features.patch_index import RECALL_QUERIES
from kvtool.features.patches import Best, Patches, sample_numbers
from kvtool.types import Block, Kind, Sample
from tests.experiments.search.patches import (
    BLOCK,
    HEAD,
    LAYER,
    Array,
    by_hand,
    centre,
    found,
    make_run,
)
from tests.support.units import DIM, PLANTED, noise, sample


def test_planted_patches_are_found_in_order(tmp_path: Path) -> None:
    direction = np.ones(DIM)
    planted = {("img02", 1): 0.0, ("img07", 11): 0.02, ("img00", 5): 0.04, ("img09", 8): 0.06}

    def fill(s: Sample, layer: int, head: int) -> Array:
        values = noise(3)(s, layer, head)
        if (layer, head) == PLANTED:
            values -= values @ direction[:, None] * direction / DIM  # nothing else is near
            for (image, cell), angle in planted.items():
                if image == s.id:
                    normal = np.cos(np.arange(DIM))
                    normal -= normal @ direction * direction / DIM
                    scale = np.sqrt(DIM) / np.linalg.norm(normal)
                    values[s.base().token_indices()[cell]] = (
                        direction + np.tan(angle * 5) * normal * scale
                    )
        return values

    run = make_run(tmp_path, fill)
    spans = {s.id: s.base() for s in run.samples}
    row, col = divmod(1, spans["img02"].grid[1])
    result = kvtool.search(run, "img02", centre(run, "img02", row, col), k=4, **BLOCK)
    assert found(result) == [(image, spans[image].token_indices()[cell]) for image, cell in planted]
    np.testing.assert_allclose(
        [r["score"] for r in result.rows], np.cos(np.array(list(planted.values())) * 5), atol=0.01
    )
    assert [r["rank"] for r in result.rows] == [1, 2, 3, 4]
    for r in result.rows:
        assert (r["x_px"], r["y_px"]) == spans[r["image"]].centre_px(r["row"], r["col"])
        assert spans[r["image"]].token_at(r["x_px"], r["y_px"]) == r["token"]
    elsewhere = kvtool.search(
        run, "img02", centre(run, "img02", row, col), k=4, layer=LAYER, kv_head=0
    )
    assert found(elsewhere)[1:] != found(result)[1:]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(
    ("kind", "layer", "head"), [("value", 5, 1), ("projected", 0, 0), ("vision", 3, 0)]
)
def test_flat_and_exact_are_the_double_loop(
    tmp_path: Path,
    metric: Metric,
    kind: Kind,
    layer: int,
    head: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kvtool.features.patches.READ_BYTES", 30 * 4 * DIM)
    run = make_run(tmp_path)
    query = ("img03", centre(run, "img03", 2, 1, kind))
    options: dict[str, Any] = {
        "kind": kind,
        "layer": layer,
        "kv_head": head,
        "k": 25,
        "metric": metric,
    }
    expected, scores = by_hand(run, "img03", (2, 1), 25, metric, kind, layer, head)
    for exact in (True, False, False):
        result = kvtool.search(run, *query, exact=exact, **options)
        assert found(result) == expected
        np.testing.assert_allclose([row["score"] for row in result.rows], scores, atol=1e-5 * 30)
        assert result.config["index"]["kind"] == ("none" if exact else "flat")
    assert result.config["index"]["recall_at_10"] == 1
    assert result.config["index"]["n"] == RECALL_QUERIES
    assert "kept, flat" in result.config["notes"][-1]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_equal_patches_come_by_image_and_token_after_the_patch_itself(
    tmp_path: Path, metric: Metric
) -> None:
    run = make_run(tmp_path, lambda s, _layer, _head: np.ones((s.n_tokens, DIM)), layers=6)
    expected, _ = by_hand(run, "img05", (1, 1), 20, metric, "value", LAYER, HEAD)
    for exact in (True, False):
        result = kvtool.search(
            run, "img05", centre(run, "img05", 1, 1), k=20, metric=metric, exact=exact, **BLOCK
        )
        assert found(result) == expected
    assert expected[0][0] == "img05"
    assert expected[1] == ("img00", 0)


@pytest.mark.parametrize("exact", [True, False])
def test_exclude_self_leaves_out_the_whole_image(tmp_path: Path, exact: bool) -> None:
    run = make_run(tmp_path)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    everything = kvtool.search(*query, k=500, exact=exact, **BLOCK)
    result = kvtool.search(*query, k=20, exclude_self=True, exact=exact, **BLOCK)
    assert found(result) == [hit for hit in found(everything) if hit[0] != "img08"][:20]
    assert [row["rank"] for row in result.rows] == list(range(1, 21))
    assert found(kvtool.search(*query, k=1, exact=exact, **BLOCK)) == found(everything)[:1]


def test_more_asked_than_there_are(tmp_path: Path) -> None:
    run = make_run(tmp_path, samples=[sample("a", 0, (10, 10), (1, 1))], layers=6)
    for k in (1, 5):
        result = kvtool.search(run, "a", (0, 0), k=k, **BLOCK)
        assert found(result) == [("a", 0)]
        assert result.config["index"]["recall_at_10"] is None
    assert kvtool.search(run, "a", (0, 0), exclude_self=True, **BLOCK).rows == []


@pytest.mark.sampled
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.usefixtures("small")
def test_vectors_that_are_not_finite_are_left_out(tmp_path: Path, exact: bool) -> None:
    def fill(s: Sample, layer: int, head: int) -> Array:
        values = noise(3)(s, layer, head)
        values[s.base().token_indices()[::2]] = (
            [np.nan, *[1.0] * (DIM - 1)] if s.index % 2 else np.inf
        )
        return values

    run = make_run(tmp_path, fill, layers=6)
    result = kvtool.search(run, "img04", centre(run, "img04", 0, 1), k=10, exact=exact, **BLOCK)
    assert len(result.rows) == 10
    assert all(np.isfinite(row["score"]) for row in result.rows)
    with pytest.raises(KvtoolError, match="is not finite"):
        kvtool.search(run, "img04", centre(run, "img04", 0, 0), exact=exact, **BLOCK)


def test_a_run_of_an_encoder_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds=("vision",))
    result = kvtool.search(run, "img08", centre(run, "img08", 1, 1, "vision"), k=7)
    assert found(result) == by_hand(run, "img08", (1, 1), 7, "cosine", "vision", 3, 0)[0]
    assert (result.config["kind"], result.config["layer"], result.config["kv_head"]) == (
        "vision",
        3,
        0,
    )
    with pytest.raises(UsageError, match="has no value, only vision"):
        kvtool.search(run, "img08", (1, 1), kind="value")


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["cosine", "l2"]), st.integers(1, 12))
def test_the_best_do_not_depend_on_the_chunks(seed: int, metric: Metric, k: int) -> None:
    """Few distinct small integer vectors: duplicates, zeros and exact ties abound."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, size=(40, 3)).astype(np.float32)
    queries, numbers = vectors[:5].copy(), np.sort(rng.choice(1000, 40, replace=False))
    cuts = np.sort(rng.integers(0, 41, size=3))
    best = Best(queries, k, metric, torch.device("cpu"))
    order = rng.permutation(4)
    for chunk in (np.split(np.arange(40), cuts)[i] for i in order):
        best.add(numbers[chunk], vectors[chunk])
    scores, expected = nearest(queries[None], vectors[None], k, metric=metric, backend="numpy")
    np.testing.assert_array_equal(best.numbers, numbers[expected[0]])
    np.testing.assert_allclose(best.scores, scores[0], atol=1e-6)


@pytest.mark.slow
def test_gather_gives_the_chunks_patches(tmp_path: Path) -> None:
    patches = Patches(make_run(tmp_path), Block("value", LAYER, HEAD), "l2")
    everything = [np.concatenate(chunks) for chunks in zip(*patches.chunks(), strict=True)]
    np.testing.assert_array_equal(everything[0], np.arange(len(patches)))
    picks = sample_numbers(len(patches), 30, 7)
    numbers, vectors = patches.gather(picks)
    np.testing.assert_array_equal(numbers, picks)
    np.testing.assert_array_equal(vectors, everything[1][picks])
    for number in picks.tolist():
        sample, row, col = patches.place(number)
        token = sample.base().start + row * sample.base().row_stride + col
        np.testing.assert_array_equal(
            everything[1][number], patches.run.read_image(sample.id)["value"][LAYER, HEAD, token]
        )

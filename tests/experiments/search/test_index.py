"""The index of a search against FAISS used by hand: its lists, files, recall and building."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import kvtool
from kvtool.features import patch_index
from kvtool.features.neighbors import Metric
from kvtool.features.patch_index import RECALL_AT, RECALL_QUERIES, SEED, n_lists
from kvtool.features.patches import sample_numbers
from kvtool.store import indexes, open_store
from tests.experiments.search.patches import (
    BLOCK,
    HEAD,
    LAYER,
    Array,
    all_patches,
    by_hand,
    centre,
    found,
    images,
    make_run,
    score,
)
from tests.support.units import DIM


def hits_by_hand(shards: list[Any], vector: Array, metric: Metric) -> list[int]:
    """The numbers of the patches that FAISS finds in the lists it reads of all shards, best first;
    the lower number first where two are equal.
    """
    sign = 1 if metric == "cosine" else -1
    hits = []
    for shard in shards:
        similarities, numbers = shard.search(vector[None], RECALL_AT + 1)
        hits += [
            (-sign * similarity, number)
            for similarity, number in zip(
                similarities[0].tolist(), numbers[0].tolist(), strict=True
            )
            if number >= 0
        ]
    return [number for _, number in sorted(hits)]


def recall_by_hand(shards: list[Any], vectors: Array, metric: Metric) -> list[float]:
    """For each sampled query, the share of its true neighbors that FAISS finds; the query itself
    does not count.
    """
    shares = []
    for query in sample_numbers(len(vectors), RECALL_QUERIES, SEED).tolist():
        exact = sorted(
            range(len(vectors)), key=lambda i: (-score(vectors[query], vectors[i], metric), i)
        )
        hits, expected = (
            [number for number in numbers if number != query][:RECALL_AT]
            for numbers in (hits_by_hand(shards, vectors[query], metric), exact)
        )
        shares.append(len(set(hits) & set(expected)) / RECALL_AT)
    return shares


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.usefixtures("small")
def test_recall_of_inverted_lists_is_what_faiss_gives_by_hand(
    tmp_path: Path, metric: Metric
) -> None:
    run = make_run(tmp_path)
    result = kvtool.search(run, "img03", centre(run, "img03", 2, 1), k=10, metric=metric, **BLOCK)
    index = result.config["index"]
    patches = all_patches(run, "value", LAYER, HEAD)
    assert (index["kind"], index["patches"], index["probed"]) == ("ivf", len(patches), 2)
    assert index["lists"] == n_lists(len(patches), DIM) == 8
    vectors = np.stack([vector for *_, vector in patches]).astype(np.float32)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folder = indexes.folder_of(run) / indexes.names(run)[0]
    files = sorted(folder.glob("*.faiss"))
    assert len(files) == -(-len(patches) // 64)
    shards = [faiss.read_index(str(file)) for file in files]
    assert sum(shard.ntotal for shard in shards) == len(patches)
    shares = recall_by_hand(shards, vectors, metric)
    assert index["recall_at_10"] == pytest.approx(np.mean(shares), abs=1e-9)
    assert 0.2 < index["recall_at_10"] < 1
    assert index["n"] == len(shares)
    assert (
        f"recall_at_10 {index['recall_at_10']:.3f} over {len(shares)} queries"
        in result.config["notes"][-1]
    )
    # What is found is scored exactly, and the patch itself is first.
    scores = dict(
        zip(*by_hand(run, "img03", (2, 1), len(patches), metric, "value", LAYER, HEAD), strict=True)
    )
    assert found(result)[0] == ("img03", result.rows[0]["token"])
    np.testing.assert_allclose(
        [r["score"] for r in result.rows], [scores[p] for p in found(result)], atol=1e-5 * 30
    )


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_all_lists_probed_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_index, "PROBED", 8)
    run = make_run(tmp_path)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    by_index = kvtool.search(*query, **BLOCK)
    assert by_index.rows == kvtool.search(*query, exact=True, **BLOCK).rows
    assert by_index.config["index"]["recall_at_10"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_no_file_outgrows_its_bound(tmp_path: Path) -> None:
    run = make_run(tmp_path, samples=images(40), layers=6)
    kvtool.search(run, "img08", centre(run, "img08", 0, 0), **BLOCK)
    lists = n_lists(len(all_patches(run, "value", LAYER, HEAD)), DIM)
    sizes = [file.stat().st_size for file in indexes.folder_of(run).rglob("*.faiss")]
    assert len(sizes) > 8
    assert max(sizes) <= 64 * (4 * DIM + 8) + lists * (4 * DIM + 8) + 300


def test_number_of_lists() -> None:
    assert n_lists(2**18, 128) == 1
    assert n_lists(2**18 + 1, 128) == 512
    assert n_lists(729_000, 128) == 1024
    assert n_lists(729_000, 3584) == 128
    assert n_lists(10**9, 128) == 4096


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_twice_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    first = kvtool.search(*query, **BLOCK)
    files = {file: file.read_bytes() for file in indexes.folder_of(run).rglob("*.faiss")}
    again = kvtool.search(*query, fresh=True, **BLOCK)
    assert "built" in again.config["notes"][-1]
    assert again.rows == first.rows
    assert {file: file.read_bytes() for file in files} == files


@pytest.mark.slow
def test_a_longer_run_has_a_new_index_in_place_of_the_old(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    last = sorted((run.folder / "parts").glob("0*"))[-1]
    shutil.move(last, tmp_path / "aside")
    run = open_store(run.store).run()
    assert len(run.ids) == 10
    query: Any = ("img03", centre(run, "img03", 0, 0))
    shorter = kvtool.search(run, *query, k=500, **BLOCK)
    (name,) = indexes.names(run)
    kvtool.search(run, *query, layer=2, kv_head=0)
    kvtool.search(run, *query, metric="l2", **BLOCK)
    shutil.move(tmp_path / "aside", last)
    run = open_store(run.store).run()
    longer = kvtool.search(run, *query, k=500, **BLOCK)
    assert longer.n > shorter.n
    assert {row["image"] for row in longer.rows} - {row["image"] for row in shorter.rows} == {
        "img10",
        "img11",
    }
    assert found(longer) == by_hand(run, "img03", (0, 0), 500, "cosine", "value", LAYER, HEAD)[0]
    assert name not in indexes.names(run)
    assert len(indexes.names(run)) == 3


def test_without_faiss_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvtool.features import neighbors

    run = make_run(tmp_path)
    neighbors.available.cache_clear()
    monkeypatch.setitem(sys.modules, "faiss", None)
    try:
        result = kvtool.search(run, "img08", centre(run, "img08", 0, 0), k=9, **BLOCK)
        assert not neighbors.available()["faiss-cpu"]
    finally:
        neighbors.available.cache_clear()
    assert not indexes.folder_of(run).exists()
    assert found(result) == by_hand(run, "img08", (0, 0), 9, "cosine", "value", LAYER, HEAD)[0]
    assert "FAISS is not installed" in result.config["notes"][-1]
    assert result.config["index"] == {
        "kind": "none",
        "patches": result.n,
        "recall_at_10": None,
        "n": 0,
    }

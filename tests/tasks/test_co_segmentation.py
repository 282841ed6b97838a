"""Co-segmentation: the golden cases, k-means against scikit-learn, and a planted answer scored by
hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch.nn.functional import normalize

from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.probe.run import probe
from kvtool.features import clusters
from kvtool.features.kmeans import assign, kmeans
from kvtool.features.layers import nearest_cells
from kvtool.types import GridSpan
from tests.support.fields import assert_documented
from tests.support.tasks.co_segmentation import GRID, TASK, make_run
from tests.support.units import PLANTED, Array, noise, sample, write_run

GOLDEN = Path(__file__).parent.parent / "golden"


def span_of(grid: Array, height: int, width: int) -> GridSpan:
    rows, cols = map(int, grid)
    return GridSpan("base", 0, (rows, cols), cols, (0.0, 0.0, float(width), float(height)))


def test_golden_chain() -> None:
    data = np.load(GOLDEN / "coseg_kmeans_a.npz")
    count = int(data["n_images"])
    values = [torch.from_numpy(data[f"desc_{i}"].astype(np.float32))[None] for i in range(count)]
    _, k, sse = clusters.choose_clusters([normalize(v, dim=-1) for v in values])
    assert k.tolist() == [int(data["k"])]
    expected = data["sse_per_k"]
    np.testing.assert_allclose(sse[0, : k[0] - 1], expected[:-1], rtol=0.01)
    np.testing.assert_allclose(sse[0, k[0] - 1], expected[-1], rtol=0.03)
    assert np.isnan(sse[0, k[0] :]).all()
    labels, k = clusters.shared_clusters(values)
    tokens = [label[0] for label in labels]
    saliency = [data[f"saliency_{i}"].astype(float) for i in range(count)]
    votes = clusters.count_votes(tokens, saliency, int(k[0]))
    is_foreground = votes >= np.ceil(clusters.VOTES * count)
    for i in range(count):
        token_mask = is_foreground[tokens[i]].reshape(data[f"grid_{i}"])
        assert (token_mask == data[f"token_mask_{i}"]).mean() >= 0.995
        height, width = map(int, data[f"size_{i}"])
        rows, cols = nearest_cells(span_of(data[f"grid_{i}"], height, width), (width, height))
        assert (token_mask[rows[:, None], cols] == data[f"mask_{i}"]).mean() >= 0.995


def test_golden_votes() -> None:
    data = np.load(GOLDEN / "coseg_votes_a.npz")
    count, k = int(data["n_images"]), int(data["k"])
    labels = [data[f"labels_{i}"] for i in range(count)]
    votes = clusters.count_votes(
        labels, [data[f"saliency_{i}"].astype(float) for i in range(count)], k
    )
    assert votes.tolist() == data["votes"].tolist()
    foreground = votes >= np.ceil(clusters.VOTES * count)
    assert np.flatnonzero(foreground).tolist() == data["foreground_clusters"].tolist()
    for i in range(count):
        mask = data[f"mask_{i}"]
        rows, cols = nearest_cells(span_of(data[f"grid_{i}"], *mask.shape), mask.shape[::-1])
        np.testing.assert_array_equal(
            foreground[labels[i].reshape(data[f"grid_{i}"])][rows[:, None], cols], mask
        )


@pytest.mark.slow
def test_kmeans_is_as_good_as_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 12)) * 3
    points = (centres[rng.integers(5, size=(3, 400))] + rng.normal(size=(3, 400, 12))).astype(
        np.float32
    )
    for k in (1, 3, 5, 8):
        centroids = kmeans(torch.from_numpy(points), k)
        labels, distance = assign(torch.from_numpy(points), centroids)
        for i in range(3):
            peer = KMeans(k, n_init=10, random_state=0).fit(points[i])
            assert float(distance[i].sum()) <= peer.inertia_ * 1.005
            exact = ((points[i][:, None] - centroids[i].numpy()) ** 2).sum(-1)
            assert (labels[i].numpy() == exact.argmin(1)).mean() > 0.999
    again = kmeans(torch.from_numpy(points), 8)
    assert torch.equal(again, centroids)


def test_a_cluster_is_the_object_where_it_lies_inside() -> None:
    # 4 x 5 cells: 14 on the border, 6 inside. Cluster 0 has 1 of 14 and 3 of 6; cluster 1 has 13
    # of 14 and 2 of 6; cluster 2 has none and 1; cluster 3 is absent.
    label = np.ones((4, 5), int)
    label[1, 1:4] = 0
    label[0, 0] = 0
    label[2, 1] = 2
    assert clusters.inside_clusters([label.reshape(-1)], [(4, 5)], 4).tolist() == [
        True,
        False,
        True,
        False,
    ]
    # The shares are of all images together.
    everywhere = np.zeros((4, 5), int)
    labels = [label.reshape(-1), everywhere.reshape(-1)]
    # Cluster 0 now has 15 of 28 and 9 of 12.
    assert clusters.inside_clusters(labels, [(4, 5)] * 2, 3).tolist() == [False, False, True]
    # Without an inside there is no object.
    assert not clusters.inside_clusters([np.zeros(8, int)], [(2, 4)], 1).any()


@pytest.mark.slow
def test_the_planted_block_is_named_and_scored_by_hand(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    result = probe(run, TASK)
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) == PLANTED
    assert result.best["j_mean"] == pytest.approx((6 / 8 + 7) / 8)
    assert result.n == 8
    cow = [
        r
        for r in result.rows
        if r.get("category") == "cow" and (r["layer"], r["kv_head"]) == PLANTED
    ]
    assert cow[0]["j_mean"] == pytest.approx((6 / 8 + 3) / 4)
    rivals = [
        r for r in result.rows if "category" not in r and r["kind"] == "value" and r["j_mean"] < 0.9
    ]
    assert len(rivals) == 11
    assert max(r["j_mean"] for r in rivals) < 0.35
    assert_documented(result.to_json())
    assert probe(run, TASK, fresh=True).to_json() == result.to_json()


def test_wrong_requests(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(UsageError, match="expected border or vision, found 'centre'"):
        probe(run, TASK, saliency="centre")
    root = tmp_path / "data"
    single = write_run(
        tmp_path / "one", "msrc", "all", root, [sample("cow/cow0", 0, (8, 6), GRID)], noise(0)
    )
    with pytest.raises(KvtoolError, match="two images of no class"):
        probe(single, TASK)

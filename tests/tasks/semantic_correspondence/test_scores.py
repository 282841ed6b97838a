"""SPair-71k: a planted answer found and scored by hand, and a slow obvious reference on awkward
grids.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kvtool.datasets.spair71k import SPair71k
from kvtool.experiments.probe.run import probe
from kvtool.features.layers import GridImage, Layer
from kvtool.features.pixels import nearest_pixels
from kvtool.store import Run
from kvtool.tasks.base import halves
from kvtool.tasks.semantic_correspondence import SemanticCorrespondence
from kvtool.tasks.truth import sizes_of
from tests.support.fields import assert_documented
from tests.support.tasks.semantic_correspondence import (
    GRID,
    TASK,
    WH,
    make_run,
    planted,
    summary,
    write_spair,
)
from tests.support.units import PLANTED, sample, write_run
from tests.tasks.semantic_correspondence.reference import pairs_of, slow_pck


@pytest.mark.slow
def test_the_planted_block_is_named_and_scored_by_hand(run: Run) -> None:
    result = probe(run, TASK, fresh=True)
    assert result.best is not None
    assert (result.best["kind"], result.best["layer"], result.best["kv_head"]) == (
        "value",
        *PLANTED,
    )
    pairs = pairs_of(run)
    assert result.n == len(pairs) == 60
    span, by_hand = sample("x", 0, WH, GRID).base(), []
    for pair in pairs:
        box = pair.trg_box_xyxy_px
        centres = [span.centre_px(*span.cell_at(*point)) for point in pair.trg_kps_px]
        away = [
            np.hypot(c[0] - p[0], c[1] - p[1])
            for c, p in zip(centres, pair.trg_kps_px, strict=True)
        ]
        by_hand.append(np.mean([d <= 0.1 * max(box[2] - box[0], box[3] - box[1]) for d in away]))
    assert result.best["pck_image"] == pytest.approx(np.mean(by_hand), abs=1e-12)
    assert result.best["pck_image_low"] <= np.mean(by_hand) <= result.best["pck_image_high"]


@pytest.mark.slow
def test_other_blocks_are_at_chance(run: Run) -> None:
    result = probe(run, TASK)
    span = sample("x", 0, WH, GRID).base()
    centres = np.array([span.centre_px(r, c) for r in range(6) for c in range(8)])
    chance = np.mean(
        [
            (np.linalg.norm(centres - p, axis=1) <= 0.1 * max(b[2] - b[0], b[3] - b[1])).mean()
            for b, points in ((pair.trg_box_xyxy_px, pair.trg_kps_px) for pair in pairs_of(run))
            for p in points
        ]
    )
    rivals = [
        row
        for row in result.rows
        if "alpha" not in row and (row["kind"], row["layer"], row["kv_head"]) != ("value", *PLANTED)
    ]
    covered = [row["pck_image_low"] <= chance <= row["pck_image_high"] for row in rivals]
    assert len(covered) == 17
    assert sum(covered) >= 15


@pytest.mark.slow
def test_the_slow_reference_agrees(run: Run) -> None:
    result = probe(run, TASK)
    pairs = pairs_of(run)
    for kind, layer, head in (
        ("value", *PLANTED),
        ("value", 0, 0),
        ("projected", 0, 0),
        ("vision", 3, 0),
    ):
        row = summary(result, kind, layer, head)
        assert (row["pck_image"], row["pck_point"]) == pytest.approx(
            slow_pck(run, kind, layer, head, pairs)
        )
        for alpha in (0.05, 0.15):
            row = summary(result, kind, layer, head, alpha=alpha)
            assert row["pck_image"] == pytest.approx(
                slow_pck(run, kind, layer, head, pairs, alpha)[0]
            )
    category_pairs = [pair for pair in pairs if pair.category == "cat1"]
    row = summary(result, "value", 2, 0, alpha=0.1, category="cat1")
    assert row["pck_image"] == pytest.approx(slow_pck(run, "value", 2, 0, category_pairs)[0])
    assert row["n"] == len(category_pairs) == 30


@pytest.mark.slow
def test_awkward_grids(tmp_path: Path) -> None:
    """Newline tokens, tokens before the grid, padding beyond the image, a crop inside it, other
    sizes, float32.
    """
    root = write_spair(tmp_path / "data", categories=1, images=4)
    dataset = SPair71k(root, "test")
    refs = dataset.images()
    samples = [
        sample(refs[0].id, 0, WH, (5, 7), newline=True, start=3),
        sample(refs[1].id, 1, WH, (6, 6), cover=(0.0, -10.0, 80.0, 70.0)),
        sample(refs[2].id, 2, WH, (3, 9), cover=(10.0, 0.0, 70.0, 60.0)),
        sample(refs[3].id, 3, WH, GRID),
    ]
    run = write_run(
        tmp_path / "store",
        "spair71k",
        "test",
        root,
        samples,
        planted(dataset.pairs()),
        dtype="float32",
    )
    result = probe(run, TASK, kinds=["value"], layers=[0, 5], heads=[1])
    assert {(row["layer"], row["kv_head"]) for row in result.rows} == {(0, 1), (5, 1)}
    for layer in (0, 5):
        row = summary(result, "value", layer, 1)
        assert (row["pck_image"], row["pck_point"]) == pytest.approx(
            slow_pck(run, "value", layer, 1, dataset.pairs())
        )


def test_upsampled_matching_is_the_upsampled_features() -> None:
    """Against features that torch upsamples to the image's pixels, compared one by one."""
    rng = np.random.default_rng(0)
    image = sample("x", 0, (23, 17), (4, 5))
    values = torch.from_numpy(rng.normal(size=(2, 20, 6))).float()
    queries = torch.from_numpy(rng.normal(size=(2, 9, 6))).float()
    pixels = nearest_pixels(queries, GridImage(image, image.base(), values))
    for head in range(2):
        dense = torch.nn.functional.interpolate(
            values[head].T.reshape(1, 6, 4, 5), size=(17, 23), mode="bilinear", align_corners=False
        )[0]
        cosine = torch.nn.functional.cosine_similarity(
            queries[head][:, :, None, None], dense[None], dim=1
        )
        for query in range(9):
            y, x = divmod(int(cosine[query].argmax()), 23)
            assert pixels[head, query].tolist() == [x, y]


@pytest.mark.slow
def test_upsample_is_another_result(run: Run) -> None:
    plain = probe(run, TASK, kinds=["value"], layers=[5])
    upsampled = probe(run, TASK, kinds=["value"], layers=[5], upsample=True)
    assert upsampled.best is not None
    assert upsampled.best["pck_image"] > 0.5
    assert upsampled.rows != plain.rows


@pytest.mark.slow
def test_two_computations_are_equal(run: Run) -> None:
    first, second = (probe(run, TASK, fresh=True).to_json() for _ in range(2))
    assert first == second
    assert probe(run, TASK, fresh=True, backend="numpy").rows == probe(run, TASK).rows


@pytest.mark.slow
def test_the_result_is_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = probe(run, TASK, layers=[1])
    monkeypatch.setattr(Run, "stream", None)
    assert probe(run, TASK, layers=[1]).to_json() == first.to_json()


@pytest.mark.slow
def test_split_chooses_on_one_half(run: Run) -> None:
    result = probe(run, TASK, select="split")
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"], result.best["select"]) == (
        *PLANTED,
        "split",
    )
    pairs = pairs_of(run)
    joined = np.array([(pair.src_id, pair.trg_id) for pair in pairs])
    sides = halves(len(pairs), 0, joined)
    # The halves share no image: pairs that join them are in neither.
    assert set(joined[sides[0]].flat).isdisjoint(joined[sides[1]].flat)
    assert min(map(len, sides)) >= 12
    choice, scored = (
        slow_pck(run, "value", *PLANTED, [pairs[i] for i in side])[0] for side in sides
    )
    assert result.best["n"] == len(sides[1])
    assert result.best["chosen_pck_image"] == pytest.approx(choice)
    assert result.best["pck_image"] == pytest.approx(scored)


@pytest.mark.slow
def test_every_field_is_documented(run: Run) -> None:
    assert_documented(probe(run, TASK).to_json())
    assert_documented(probe(run, TASK, select="split").to_json())


def test_a_vector_of_nan_matches_no_cell(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    dataset = SPair71k(Path(str(run.config.dataset_path)), "test")
    task = SemanticCorrespondence(dataset, sizes_of(run), torch.device("cpu"))
    layer = Layer(run, "value", PLANTED[0], [PLANTED[1]], torch.device("cpu"))
    image = next(iter(layer.each([dataset.pairs()[0].trg_id])))
    queries = image.stored[:, :3].clone()
    queries[:, 1] = torch.nan
    points = task._match(queries, image)
    assert np.isnan(points[:, 1]).all()
    assert np.isfinite(points[:, [0, 2]]).all()

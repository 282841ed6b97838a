"""DAVIS: the golden propagation, a slow reference of it, and a planted answer scored by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.probe.run import probe
from kvtool.features import propagation
from kvtool.features.layers import GridImage
from kvtool.features.products import exact_products
from kvtool.features.propagation import Context, Rule
from kvtool.metrics.video import boundary_accuracy
from kvtool.tasks.temporal_correspondence import index_mask
from tests.support.datasets import label_png
from tests.support.fields import assert_documented
from tests.support.tasks.temporal_correspondence import GRID, TASK, make_run, slow_propagate
from tests.support.units import PLANTED, sample

GOLDEN = Path(__file__).parent.parent / "golden"


def test_golden_propagation() -> None:
    data = np.load(GOLDEN / "dino_default.npz")
    rule = Rule(int(data["n_last_frames"]), int(data["size_mask_neighborhood"]), int(data["topk"]))
    assert rule == Rule()
    grid, patch = (12, 20), int(data["patch_size"])
    height, width = map(int, data["original_size"])
    feats = torch.from_numpy(data["feats"].astype(np.float32))
    first_mask = torch.from_numpy(data["first_mask"].reshape(1, 3, -1).astype(np.float32))
    context = Context(feats[:1], first_mask, grid, rule)
    padded = sample("x", 0, (grid[1] * patch, grid[0] * patch), grid)
    for i in range(1, len(feats)):
        soft = context.propagate(feats[i : i + 1])
        np.testing.assert_allclose(soft[0].reshape(3, *grid), data["soft"][i - 1], atol=1e-5)
        context.add(feats[i : i + 1], soft)
        ids = index_mask(soft[0], GridImage(padded, padded.base(), feats[i : i + 1]))
        resized = Image.fromarray(ids.astype(np.uint8)).resize(
            (width, height), Image.Resampling.NEAREST
        )
        assert (np.asarray(resized) == data["index_mask"][i - 1]).mean() >= 0.999


RULES = [
    Rule(radius=2),
    Rule(last_frames=1, top=3, radius=1),
    Rule(last_frames=2, radius=99),
    Rule(last_frames=1, top=1, radius=99),
    Rule(top=200),
]


@pytest.mark.parametrize("band_tokens", [1, 10, 1000])
@pytest.mark.parametrize("rule", RULES)
def test_all_heads_at_once_are_the_loop(
    rule: Rule, band_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five frames of vectors of any length: fewer than the context holds, and more, so that the
    oldest one goes.
    """
    monkeypatch.setitem(propagation.BAND_TOKENS, "cpu", band_tokens)
    rng = np.random.default_rng(0)
    grid = (4, 5)
    frames, masks = (
        rng.normal(size=(5, 3, 20, 6)) * rng.uniform(0.1, 9, (5, 3, 20, 1)),
        rng.random((4, 3, 2, 20)),
    )
    unit = frames / np.linalg.norm(frames, axis=-1, keepdims=True)
    context = Context(torch.from_numpy(frames[0]), torch.from_numpy(masks[0]), grid, rule)
    for i in range(1, 5):
        soft = context.propagate(torch.from_numpy(frames[i]))
        voters = [0, *range(1, i)[-rule.last_frames :]]
        for head in range(3):
            head_context = [(unit[f, head], masks[f, head], grid) for f in voters]
            np.testing.assert_allclose(
                soft[head], slow_propagate(unit[i, head], grid, head_context, rule), atol=1e-9
            )
        if i < 4:
            context.add(torch.from_numpy(frames[i]), torch.from_numpy(masks[i]))


def test_exact_ties_all_count() -> None:
    """All tokens alike: the mean over everything within the radius, as the reference keeps what
    equals the fifth.
    """
    grid, rule = (5, 4), Rule(radius=1)
    masks = np.random.default_rng(0).random((2, 3, 20))
    values = torch.ones(2, 20, 3)
    soft = Context(values, torch.from_numpy(masks).float(), grid, rule).propagate(values)
    unit = np.full((20, 3), 3**-0.5)
    for head in range(2):
        expected = slow_propagate(unit, grid, [(unit, masks[head], grid)], rule)
        np.testing.assert_allclose(soft[head], expected, atol=1e-6)


def test_threads_give_the_same_bits_and_are_given_back() -> None:
    """Two threads, a band of a head each, against a single one, frame after frame."""
    frames = torch.randn(4, 3, 30, 8, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(3, 2, 30, generator=torch.Generator().manual_seed(1))
    before, propagated = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            context = Context(frames[0], masks, (5, 6), Rule(radius=2))
            for frame in frames[1:]:
                propagated.append(context.propagate(frame))
                context.add(frame, propagated[-1])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for single, shared in zip(propagated[:3], propagated[3:], strict=True):
        assert torch.equal(single, shared)


@pytest.mark.slow
def test_stored_bfloat16_is_as_exact_as_float32() -> None:
    """A product of two bfloat16 numbers is exact in float32, so faster units may make it: both
    agree with doubles.
    """
    stored = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 56, 128))).to(
        torch.bfloat16
    )
    masks = torch.rand(3, 2, 56)
    first, second = (Context(v[0], masks, (7, 8), Rule()) for v in (stored, stored.double()))
    with exact_products(first.of_bfloat16):
        products = first._products(slice(None), stored[1].float(), slice(0, 7)).double()
    exact = second._products(slice(None), stored[1].double(), slice(0, 7))
    assert first.of_bfloat16
    assert not second.of_bfloat16
    torch.testing.assert_close(products, exact, rtol=0, atol=2e-5)
    torch.testing.assert_close(
        first.propagate(stored[1]).double(), second.propagate(stored[1].double()), atol=1e-4, rtol=0
    )


def test_a_constant_channel_is_never_predicted() -> None:
    image = sample("x", 0, (8, 6), GRID)
    frame = GridImage(image, image.base(), torch.zeros(1, 48, 2))
    soft = torch.zeros(3, 48)
    soft[1] = 0.5
    soft[0, 10:] = 0.1
    mask = index_mask(soft, frame)
    assert set(np.unique(mask)) == {0}


@pytest.mark.slow
@pytest.mark.parametrize("propagation", ["dino", "nearest"])
def test_the_planted_block_is_named_and_scored_by_hand(tmp_path: Path, propagation: str) -> None:
    """Of four objects in four scored frames each, one is lost in one frame: its J and F there are
    0.
    """
    run = make_run(tmp_path, lost="two/00003")
    result = probe(run, TASK, propagation=propagation)
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) == PLANTED
    assert result.n == 4
    row = next(
        r
        for r in result.rows
        if r.get("object") == "two_2" and (r["layer"], r["kv_head"]) == PLANTED
    )
    assert (row["j_mean"], row["j_recall"]) == (0.75, 0.75)
    assert boundary_accuracy(np.zeros(GRID, bool), np.eye(6, 8) > 0) == 0
    assert (result.best["j_mean"], result.best["f_mean"]) == (15 / 16, 15 / 16)
    assert result.best["j_and_f"] == pytest.approx(15 / 16)
    rivals = [
        r for r in result.rows if "object" not in r and r["j_and_f"] != result.best["j_and_f"]
    ]
    assert len(rivals) == 13
    assert max(r["j_mean"] for r in rivals) < 0.5
    assert_documented(result.to_json())
    assert probe(run, TASK, propagation=propagation, fresh=True).to_json() == result.to_json()


@pytest.mark.slow
def test_void_in_the_first_mask_is_no_object(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = tmp_path / "data/Annotations/480p/one/00000.png"
    ids = np.asarray(Image.open(path)).copy()
    ids[0, 4:6] = 255
    label_png(path, ids)
    result = probe(run, TASK)
    assert result.best is not None
    assert result.n == 4
    assert result.best["j_and_f"] == 1.0


@pytest.mark.slow
def test_missing_frames(tmp_path: Path) -> None:
    result = probe(make_run(tmp_path, frames=9), TASK)
    assert (result.n, result.n_skipped) == (2, 1)
    assert "1 sequences have frames that the run does not hold" in result.skipped[0]
    with pytest.raises(KvtoolError, match="all frames of none of 2 sequences"):
        probe(make_run(tmp_path / "few", frames=3), TASK)
    with pytest.raises(UsageError, match="propagation is dino or nearest"):
        probe(make_run(tmp_path / "all"), TASK, propagation="flow")


def test_a_duplicate_of_the_last_neighbour_counts_too() -> None:
    values = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.6, 0.8]]])
    masks, rule = torch.tensor([[[1.0, 0.0, 0.0, 1.0]]]), Rule(top=2, radius=99)
    soft = Context(values, masks, (1, 4), rule).propagate(values)
    expected = slow_propagate(
        values[0].numpy(), (1, 4), [(values[0].numpy(), masks[0].numpy(), (1, 4))], rule
    )
    np.testing.assert_allclose(soft[0], expected, atol=1e-6)

"""Training: a planted dictionary is found, an interrupted training goes on bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import kvtool
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.autoencoders.saving import save_sae
from kvtool.autoencoders.training import SaeRecipe, train_sae
from kvtool.errors import ModelError, UsageError

D = 32
TRUE_FEATURES = 40
ACTIVE = 3
ORIGIN = Origin("kvtool", "", layer=2, model="tiny")
QUICK = SaeRecipe(width=40, k=ACTIVE, steps=40, batch=64)


def planted(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (n, d) with three of 40 directions each, far from the origin; and the directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(TRUE_FEATURES, D, generator=torch.Generator().manual_seed(99))
    directions /= directions.norm(dim=1, keepdim=True)
    active = torch.rand(n, TRUE_FEATURES, generator=generator).topk(ACTIVE).indices
    strengths = torch.rand(n, ACTIVE, generator=generator) + 1
    codes = torch.zeros(n, TRUE_FEATURES).scatter(1, active, strengths)
    return 5 * (codes @ directions + 0.5), directions


def fvu(sae: SparseAutoencoder, x: torch.Tensor) -> float:
    error = (x - sae.reconstruct(x)).square().sum()
    return float(error / (x - x.mean(dim=0)).square().sum())


@pytest.mark.slow
def test_a_planted_dictionary_is_found() -> None:
    states, directions = planted(20_000)
    sae = train_sae(states, SaeRecipe(width=64, k=ACTIVE, steps=1200, batch=512), ORIGIN)
    held_out, _ = planted(2000, seed=1)
    assert fvu(sae, held_out) < 0.05
    l0 = float((sae.encode(held_out) != 0).sum(dim=1).float().mean())
    assert l0 == pytest.approx(ACTIVE, abs=0.7)
    # Rows keep length 1, and most true directions are among them (36 of 40 when this was written).
    torch.testing.assert_close(sae.decoder.norm(dim=1), torch.ones(64), rtol=0, atol=1e-4)
    nearest = (directions @ sae.decoder.T).max(dim=1).values
    assert float((nearest > 0.95).float().mean()) > 0.8


def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    states, _ = planted(500)
    uninterrupted = train_sae(states, QUICK, ORIGIN)
    checkpoint = tmp_path / "folder/checkpoint.pt"

    def interrupt(step: int, _loss: float) -> None:
        if step == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sae(states, QUICK, ORIGIN, checkpoint=checkpoint, save_steps=10, report=interrupt)
    steps: list[int] = []
    resumed = train_sae(
        states,
        QUICK,
        ORIGIN,
        checkpoint=checkpoint,
        save_steps=10,
        report=lambda step, _loss: steps.append(step),
    )
    assert steps == list(range(21, 41))
    for name in ("encoder", "encoder_bias", "decoder", "decoder_bias"):
        assert torch.equal(getattr(uninterrupted, name), getattr(resumed, name))
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    states, _ = planted(500)
    checkpoint = tmp_path / "checkpoint.pt"

    def interrupt(_step: int, _loss: float) -> None:
        if checkpoint.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sae(states, QUICK, ORIGIN, checkpoint=checkpoint, save_steps=5, report=interrupt)
    recipe = SaeRecipe(width=40, k=ACTIVE + 1, steps=40, batch=64)
    with pytest.raises(ModelError, match="found one of other settings or text"):
        train_sae(states, recipe, ORIGIN, checkpoint=checkpoint)
    assert checkpoint.exists()


def test_too_little_text() -> None:
    with pytest.raises(UsageError, match=r"expected 64 tokens or more .* found 63 tokens"):
        train_sae(planted(63)[0], QUICK, ORIGIN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_written_as_saelens_writes(tmp_path: Path, dtype: torch.dtype) -> None:
    states, _ = planted(500)
    sae = train_sae(states, QUICK, ORIGIN)
    frequencies = (sae.encode(states) != 0).float().mean(dim=0)
    path = save_sae(sae, tmp_path / "layer_2", frequencies=frequencies, dtype=dtype)
    loaded = kvtool.load_sae(path)
    assert (loaded.format, loaded.layer, loaded.hook) == ("saelens", 2, "resid_post")
    assert loaded.origin.model == "tiny"
    expected = sae.reconstruct(states)
    error = (loaded.reconstruct(states) - expected).norm() / expected.norm()
    # Weights in bfloat16 have eight bits, by which some features cross their threshold.
    assert float(error) < (1e-6 if dtype == torch.float32 else 0.03)

"""The check: an SAE that is read wrongly, or is of another place, is found, and what fits named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kvtool.autoencoders import check
from kvtool.autoencoders.activations import JumpReLU
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.autoencoders.check import check_sae, measure_fit

D = 40
M = 30
ACTIVE = 3
N_TOKENS = 400


def dictionary(seed: int) -> torch.Tensor:
    """Orthonormal directions (m, d)."""
    square = torch.randn(D, D, generator=torch.Generator().manual_seed(seed))
    rows: torch.Tensor = torch.linalg.qr(square).Q[:M]
    return rows


def stream(seed: int, length: float = 1.0) -> torch.Tensor:
    """Vectors of a few directions each, far from the origin."""
    generator = torch.Generator().manual_seed(seed + 100)
    active = torch.rand(N_TOKENS, M, generator=generator).topk(ACTIVE).indices
    codes = torch.zeros(N_TOKENS, M).scatter(1, active, 4.0)
    return length * (codes @ dictionary(seed) + offset(seed))


def offset(seed: int) -> torch.Tensor:
    return 3 * torch.randn(D, generator=torch.Generator().manual_seed(seed + 500))


def fitting(layer: int, hook: str = "resid_post") -> SparseAutoencoder:
    """The SAE whose rows are the directions of a layer's stream, centered on its offset."""
    rows = dictionary(layer)
    return SparseAutoencoder(
        encoder=rows.T.contiguous(),
        encoder_bias=torch.zeros(M),
        decoder=rows,
        decoder_bias=offset(layer),
        activation=JumpReLU(torch.full((M,), 2.5)),
        origin=Origin("saelens", "a", layer=layer, hook=hook, published_l0=float(ACTIVE)),
        is_centered=True,
    )


STREAMS = {layer: stream(layer) for layer in range(4)}


def test_one_that_fits() -> None:
    outcome = check_sae(fitting(2), STREAMS)
    assert outcome.verdict == "fits"
    assert outcome.published.fvu < 0.5
    assert outcome.published.l0 == pytest.approx(ACTIVE, abs=2)


@pytest.mark.parametrize(
    ("change", "reading"),
    [
        ({"is_centered": False}, "with the decoder's bias subtracted"),
        ({"origin": Origin("saelens", "a", layer=1, published_l0=3.0)}, "on layer 2"),
        ({"origin": Origin("saelens", "a", layer=None, published_l0=3.0)}, "on layer 2"),
        (
            {"origin": Origin("saelens", "a", layer=2, hook="resid_pre", published_l0=3.0)},
            "on layer 2",
        ),
    ],
)
def test_a_wrong_reading_is_named(change: dict[str, object], reading: str) -> None:
    outcome = check_sae(replace(fitting(2), **change), STREAMS)  # type: ignore[arg-type]
    assert not outcome.published.fits
    assert outcome.verdict == f"does not fit as published; fits {reading}"


def test_a_neighbor_in_depth_is_found_though_it_fits() -> None:
    """The streams of two layers are so alike that an SAE fits both, one of them better."""
    noise = torch.randn(N_TOKENS, D, generator=torch.Generator().manual_seed(1))
    streams = {1: STREAMS[2] + 0.5 * noise, 2: STREAMS[2]}
    right = check_sae(fitting(2), streams)
    assert (right.fits, right.verdict) == (True, "fits")
    wrong = check_sae(
        replace(fitting(2), origin=Origin("saelens", "a", layer=1, published_l0=3.0)), streams
    )
    assert wrong.published.fits
    assert not wrong.fits
    assert wrong.verdict.startswith("fits better on layer 2 (fvu ")


@pytest.mark.parametrize(
    ("layer", "hook", "verdict"),
    [
        (2, "mlp_out", "reads mlp_out of layer 2, of which kvtool has no vectors"),
        (None, "resid_post", "its files name no layer, and it fits none"),
        (7, "resid_post", "reads layer 7 of a decoder that has 4, and fits none"),
    ],
)
def test_a_place_that_is_no_stream(layer: int | None, hook: str, verdict: str) -> None:
    origin = Origin("saelens", "a", layer=layer, hook=hook, published_l0=3.0)
    streams = {-1: stream(7), **STREAMS}
    assert check_sae(replace(fitting(9), origin=origin), streams).verdict == verdict


def test_the_fit_over_blocks_is_that_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x = fitting(2), STREAMS[2]
    error = (x - sae.reconstruct(x)).square().sum()
    expected = float(error / (x - x.mean(dim=0)).square().sum())
    monkeypatch.setattr(check, "_BLOCK_TOKENS", 37)
    fit = measure_fit(sae, x)
    assert fit.fvu == pytest.approx(expected, rel=1e-5)
    fires = sae.encode(x) != 0
    torch.testing.assert_close(fit.frequencies, fires.float().mean(dim=0))
    assert fit.l0 == pytest.approx(float(fires.sum(dim=1).float().mean()), rel=1e-6)


def test_a_scale_that_is_missing_is_named() -> None:
    """An SAE that was trained on vectors of a mean length of sqrt(d)."""
    factor = D**0.5 / float(STREAMS[2].norm(dim=1).mean())
    sae = fitting(2)
    scaled = replace(
        sae,
        decoder_bias=sae.decoder_bias * factor,
        activation=JumpReLU(torch.full((M,), 2.5 * factor)),
        decoder=sae.decoder,
    )
    outcome = check_sae(scaled, STREAMS)
    assert outcome.alternative is not None
    assert outcome.alternative.change.startswith(f"with a scale of {factor:.4g}")


def test_another_model_fits_in_no_reading() -> None:
    elsewhere = replace(fitting(9), origin=Origin("saelens", "a", layer=2, published_l0=3.0))
    outcome = check_sae(elsewhere, STREAMS)
    assert outcome.verdict == "does not fit, in no reading: is it of another model?"

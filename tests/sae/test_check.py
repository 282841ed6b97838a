"""The check: an SAE that is read wrongly, or is of another place, is found, and what fits named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kvtool.sae.activations import JumpReLU
from kvtool.sae.autoencoder import Origin, SparseAutoencoder
from kvtool.sae.check import check_sae

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
    check = check_sae(fitting(2), STREAMS)
    assert check.verdict == "fits"
    assert check.published.fvu < 0.5
    assert check.published.l0 == pytest.approx(ACTIVE, abs=2)


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
    check = check_sae(replace(fitting(2), **change), STREAMS)  # type: ignore[arg-type]
    assert not check.published.fits
    assert check.verdict == f"does not fit as published; fits {reading}"


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
    check = check_sae(scaled, STREAMS)
    assert check.alternative is not None
    assert check.alternative.change.startswith(f"with a scale of {factor:.4g}")


def test_another_model_fits_in_no_reading() -> None:
    check = check_sae(fitting(9), STREAMS)
    assert check.verdict == "does not fit, in no reading: is it of another model?"

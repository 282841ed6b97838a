"""Where the training of an adapter starts: at random, or at the words for what patches show."""

from __future__ import annotations

from typing import Any

import torch

from kvtool.adapters.standard import Standard
from kvtool.models.families.linear_adapter import LinearAdapter

BACKGROUND = "background"
"""The word for patches that show nothing that has a word."""
RIDGE = 1e-3
"""The penalty of the ridge fit, as a share of the mean variance of features."""


def word_embedding(model: LinearAdapter, word: str) -> torch.Tensor:
    """Return the mean embedding of a word's pieces, as it stands within a text, (d,) float32."""
    tokenizer: Any = model.prompt.tokenizer
    ids = tokenizer(f" {word}", add_special_tokens=False).input_ids
    with torch.no_grad():
        rows = model.embed(torch.tensor(ids, device=model.checkpoint.device))
    return rows.float().mean(dim=0).cpu()


def table_norm(model: LinearAdapter) -> float:
    """Return the mean length of the embeddings of all tokens."""
    with torch.no_grad():
        ids = torch.arange(model.config.vocab_size, device=model.checkpoint.device)
        return float(model.embed(ids).float().norm(dim=-1).mean())


def random_layer(model: LinearAdapter, tokens: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Return a random layer whose outputs are as long as embeddings are in the mean.

    tokens: features, (image, token, d).
    """
    standard = Standard.of(tokens)
    generator = torch.Generator().manual_seed(seed)
    d = tokens.shape[2]
    weight = torch.randn(model.config.hidden_size, d, generator=generator) / d**0.5
    soft = standard.apply(tokens) @ weight.T
    weight *= table_norm(model) / float(soft.norm(dim=-1).mean())
    folded, bias = standard.fold(weight, torch.zeros(len(weight)))
    return {"weight": folded, "bias": bias}


def ridge_layer(
    tokens: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the layer that comes closest to targets in weighted least squares with a penalty.

    Args:
        tokens: Features, (image, token, d).
        targets: What the layer should give, (image, token, d_language).
        weights: What each token counts, (image, token).
    """
    standard = Standard.of(tokens)
    x = standard.apply(tokens).flatten(0, 1).double()
    y = targets.flatten(0, 1).double()
    share = weights.flatten().double()[:, None]
    share = share / share.sum()
    x_mean, y_mean = (x * share).sum(dim=0), (y * share).sum(dim=0)
    centered = x - x_mean
    gram = (centered * share).T @ centered
    penalty = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram + penalty, (centered * share).T @ (y - y_mean)).T
    folded, bias = standard.fold(weight.float(), (y_mean - weight @ x_mean).float())
    return {"weight": folded.contiguous(), "bias": bias.contiguous()}

"""Where the training of an adapter starts: at random, or at the words for what patches show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from kvtool.adapters.standard import Standard
from kvtool.features.concepts import ABSENT, PRESENT, concept_labels
from kvtool.models.families.linear_adapter import LinearAdapter
from kvtool.types import GridSpan

Layer = dict[str, torch.Tensor]
Fitted = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Features (..., d), what the layer should give there (..., d_language), what each counts (...)."""

BACKGROUND = "background"
"""The word for patches that show nothing that has a word."""
SHOWN_WEIGHT = 5.0
"""A patch that shows something counts so many times as much as background, which fills most of a
picture.
"""
RIDGE = 1e-3
"""The penalty of the ridge fit, as a share of each feature's variance."""
_MEASURED_IMAGES = 256


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


def random_layer(model: LinearAdapter, tokens: torch.Tensor, seed: int) -> Layer:
    """Return a random layer whose outputs are as long as embeddings are in the mean.

    tokens: features, (image, token, d).
    """
    standard = Standard.of(tokens)
    generator = torch.Generator().manual_seed(seed)
    d = tokens.shape[2]
    weight = torch.randn(model.config.hidden_size, d, generator=generator)
    # Some pictures tell how long the raw layer's outputs are, by which it is scaled.
    soft = standard.apply(tokens[:_MEASURED_IMAGES]) @ weight.T
    weight *= table_norm(model) / float(soft.norm(dim=-1).mean())
    folded, bias = standard.fold(weight, torch.zeros(len(weight)))
    return {"weight": folded, "bias": bias}


def ridge_layer(batches: Iterable[Fitted]) -> Layer:
    """Return the layer that comes closest to targets in weighted least squares, with a penalty on
    weights that is relative to each feature's variance.
    """
    total: Any = 0.0
    origin: Any = None
    moments: dict[str, Any] = dict.fromkeys(("x", "y", "xx", "xy"), 0.0)
    for tokens, targets, counts in batches:
        x = tokens.flatten(0, -2).double()
        # Around a first mean no variance is the small difference of two large squares; of a feature
        # that never changes it is exactly zero.
        origin = x.mean(dim=0) if origin is None else origin
        x = x - origin
        y = targets.flatten(0, -2).double()
        weighted = x * counts.flatten().double()[:, None]
        total += counts.double().sum()
        moments["x"] += weighted.sum(dim=0)
        moments["y"] += counts.flatten().double() @ y
        moments["xx"] += weighted.T @ x
        moments["xy"] += weighted.T @ y
    mean = {name: moment / total for name, moment in moments.items()}
    # Weighted covariances, from moments about `origin`.
    gram = mean["xx"] - torch.outer(mean["x"], mean["x"])
    cross = mean["xy"] - torch.outer(mean["x"], mean["y"])
    # A feature that never changes gets a penalty all the same, and so no part.
    penalty = RIDGE * gram.diagonal().clamp_min(1e-9)
    # The normal equations of ridge regression.
    weight = torch.linalg.solve(gram + torch.diag(penalty), cross).T
    # The intercept is not penalized; it takes the shift by `origin` back.
    bias = mean["y"] - weight @ (mean["x"] + origin)
    return {"weight": weight.float().contiguous(), "bias": bias.float().contiguous()}


def concept_targets(
    masks: Mapping[str, np.ndarray[Any, Any]], span: GridSpan, vectors: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean word embedding for what each patch shows, (patch, d_language), and what the
    patch counts, (patch,).

    Args:
        masks: What the image is annotated for, see kvtool.datasets.protocols.HasConcepts.
        span: The grid of the patches.
        vectors: The embeddings of the concepts' words, and of BACKGROUND.
    """
    names = [name for name in masks if name in vectors]
    labels = np.stack([concept_labels(masks[name], span) for name in names])
    is_shown = torch.from_numpy(labels == PRESENT).float()
    n_shown = is_shown.sum(dim=0)
    words = torch.stack([vectors[name] for name in names])
    # A patch that shows several concepts gets the mean of their words.
    sums = is_shown.T @ words
    is_background = torch.from_numpy((labels == ABSENT).all(axis=0))
    targets = sums / n_shown.clamp_min(1)[:, None]
    targets[is_background] = vectors[BACKGROUND]
    # A patch at an edge shows neither for sure, and counts nothing.
    counts = torch.where(n_shown > 0, SHOWN_WEIGHT, is_background.float())
    return targets, counts

"""Where a layer starts: equal to a slow reference, and as long as words are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kvtool.adapters.starts import (
    BACKGROUND,
    RIDGE,
    SHOWN_WEIGHT,
    concept_targets,
    random_layer,
    ridge_layer,
    table_norm,
    word_embedding,
)
from kvtool.types import GridSpan
from tests.support.adapters import begun, lesson
from tests.support.tiny_words import word_id


def test_the_ridge_fit_equals_weighted_least_squares_with_rows_for_the_penalty() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 5, 4, generator=generator) * torch.tensor([1.0, 10.0, 0.1, 3.0]) + 2
    y = torch.randn(6, 5, 3, generator=generator)
    counts = torch.rand(6, 5, generator=generator) + 0.1
    layer = ridge_layer([(x[:2], y[:2], counts[:2]), (x[2:], y[2:], counts[2:])])
    # The penalty as further rows of an ordinary least squares problem, features and targets around
    # their weighted means.
    share = (counts / counts.sum()).flatten().double().numpy()
    rows, targets = x.flatten(0, 1).double().numpy(), y.flatten(0, 1).double().numpy()
    rows_mean, targets_mean = share @ rows, share @ targets
    centered, aims = rows - rows_mean, targets - targets_mean
    variance = share @ centered**2
    a = np.concatenate([centered * np.sqrt(share)[:, None], np.diag(np.sqrt(RIDGE * variance))])
    b = np.concatenate([aims * np.sqrt(share)[:, None], np.zeros((4, 3))])
    weight = np.linalg.lstsq(a, b, rcond=None)[0].T
    np.testing.assert_allclose(layer["weight"], weight, atol=1e-5)
    np.testing.assert_allclose(layer["bias"], targets_mean - weight @ rows_mean, atol=1e-5)


@pytest.mark.parametrize("constant", [0.1, 7.0, 3e4])
def test_a_feature_that_never_changes_gets_no_weight(constant: float) -> None:
    """Not even that of rounding, whatever the other features are."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(2, 50, 3, generator=generator)
        x[..., 1] = constant
        counts = torch.rand(2, 50, generator=generator) + 0.1
        y = x[..., :1] * 2 + 1
        layer = ridge_layer([(x[:1], y[:1], counts[:1]), (x[1:], y[1:], counts[1:])])
        assert float(layer["weight"][0, 1]) == 0
        torch.testing.assert_close(layer["weight"][0, 0], torch.tensor(2.0), atol=1e-2, rtol=0)
        torch.testing.assert_close(layer["bias"], torch.tensor([1.0]), atol=1e-2, rtol=0)


def test_a_feature_far_from_zero_gets_the_weight_of_its_changes() -> None:
    """Its variance is a hundred millionth of its square."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(1, 500, 2, generator=generator)
    far = draws + torch.tensor([1e4, 0])
    changes, counts = far - torch.tensor([1e4, 0]), torch.ones(1, 500)
    layers = [ridge_layer([(x, changes.sum(-1, keepdim=True), counts)]) for x in (changes, far)]
    torch.testing.assert_close(layers[1]["weight"], layers[0]["weight"], atol=1e-6, rtol=0)


def test_targets_are_the_words_for_what_patches_show() -> None:
    """A grid of 2 x 2 over 4 x 4 pixels: a cat, a dog beside half a cat, background, void."""
    cat = np.zeros((4, 4), np.uint8)
    dog = np.zeros((4, 4), np.uint8)
    cat[:2, :3] = 1
    dog[:2, 2:] = 1
    cat[2:, 2:] = dog[2:, 2:] = 255
    vectors = {"cat": torch.tensor([1.0, 0]), "dog": torch.tensor([0, 1.0])}
    vectors[BACKGROUND] = torch.tensor([5.0, 5.0])
    span = GridSpan("base", 0, (2, 2), 2, (0, 0, 4, 4))
    targets, counts = concept_targets({"cat": cat, "dog": dog}, span, vectors)
    assert targets.tolist()[:3] == [[1, 0], [0.5, 0.5], [5, 5]]
    assert counts.tolist() == [SHOWN_WEIGHT, SHOWN_WEIGHT, 1, 0]


@pytest.mark.slow
def test_a_random_start_is_as_long_as_words_are(tmp_path: Path) -> None:
    model = begun(tmp_path)
    tokens, _ = lesson(model)
    layer = random_layer(model, tokens, seed=3)
    soft = tokens @ layer["weight"].T + layer["bias"]
    table = model.net.get_input_embeddings().weight.detach()
    torch.testing.assert_close(
        soft.norm(dim=-1).mean(), table.norm(dim=-1).mean(), rtol=1e-3, atol=0
    )
    assert abs(table_norm(model) - float(table.norm(dim=-1).mean())) < 1e-4
    assert torch.equal(layer["weight"], random_layer(model, tokens, seed=3)["weight"])
    assert not torch.equal(layer["weight"], random_layer(model, tokens, seed=4)["weight"])


@pytest.mark.slow
def test_the_embedding_of_a_word_is_the_mean_over_its_pieces(tmp_path: Path) -> None:
    model = begun(tmp_path)
    table = model.net.get_input_embeddings().weight.detach()
    torch.testing.assert_close(word_embedding(model, "cat"), table[word_id("cat")])
    mean = (table[word_id("red")] + table[word_id("cat")]) / 2
    torch.testing.assert_close(word_embedding(model, "red cat"), mean)

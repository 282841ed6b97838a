"""The residual stream of a few image tokens equals that of a pass over the whole prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.hidden import hidden_states
from kvtool.types import KeyPosition, Precision
from tests.support import tiny
from tests.support.tiny import noise
from tests.support.whole_pass import FAMILIES, stored, whole_pass


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("keys", ["post-rope", "pre-rope"])
@pytest.mark.parametrize("family", FAMILIES)
def test_few_tokens_equal_the_whole_pass(
    tmp_path: Path, family: str, keys: KeyPosition, dtype: Precision
) -> None:
    model: Any = load_model(str(getattr(tiny, family)(tmp_path)), dtype=dtype)
    batch = [
        model.prepare(noise(70, 45, seed), id=str(seed), index=seed, prefix="the red cat")
        for seed in range(2)
    ]
    captured = model.capture(batch, model.request(None, None, keys))
    expected = whole_pass(model, batch)
    samples = [item.sample for item in batch]
    tokens = np.array([[0, 3, samples[0].n_tokens - 1], [1, 2, 4]])
    streams = hidden_states(
        model, samples, [stored(captured, i) for i in range(2)], tokens, [2, 0], keys
    )
    assert streams.shape == (2, 2, 3, expected.shape[-1])
    for image, positions in enumerate(tokens + samples[0].image_start):
        # A processor may sum three rows in another order than all: docs/decisions names the bound.
        bound = 3e-6 if dtype == "float32" else 0.0
        torch.testing.assert_close(
            streams[:, image], expected[[2, 0], image][:, positions], rtol=0, atol=bound
        )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sliding_windows(tmp_path: Path, attention: str) -> None:
    """Tokens far apart do not see each other, in one backend as in the other."""
    folder = tiny.llava_next(tmp_path, "mistral", sliding_window=5)
    model: Any = load_model(str(folder), dtype="float32", attention=attention)
    batch = [model.prepare(noise(70, 45), id="a", index=0)]
    arrays = stored(model.capture(batch, model.request(None, None)), 0)
    last = batch[0].sample.n_tokens - 1
    streams = hidden_states(model, [batch[0].sample], [arrays], np.array([[0, last]]), [0, 1, 2])
    expected = whole_pass(model, batch)[:, 0, batch[0].sample.image_start :]
    torch.testing.assert_close(streams[:, 0], expected[:, [0, last]], rtol=0, atol=3e-6)


def test_deepstack_is_refused(tmp_path: Path) -> None:
    """What a run stores is not all that enters the stream."""
    model: Any = load_model(str(tiny.qwen3_vl(tmp_path)), dtype="float32")
    with pytest.raises(
        UsageError, match=r"found one with DeepStack, .*: extract its pictures with"
    ):
        hidden_states(model, [], [], np.zeros((0, 1)), [0])


def test_a_token_that_is_not_there(tmp_path: Path) -> None:
    model: Any = load_model(str(tiny.llava_onevision(tmp_path)), dtype="float32")
    batch = [model.prepare(noise(70, 45), id="a", index=0)]
    arrays = stored(model.capture(batch, model.request(None, None)), 0)
    count = batch[0].sample.n_tokens
    with pytest.raises(UsageError, match=f"expected tokens from 0 to {count - 1}, found"):
        hidden_states(model, [batch[0].sample], [arrays], np.array([[count]]), [0])


def test_layers_that_are_missing(tmp_path: Path) -> None:
    model: Any = load_model(str(tiny.llava_onevision(tmp_path)), dtype="float32")
    batch = [model.prepare(noise(70, 45), id="a", index=0)]
    arrays = stored(model.capture(batch, model.request(None, [0, 1])), 0)
    with pytest.raises(UsageError, match="expected 3 layers"):
        hidden_states(model, [batch[0].sample], [arrays], np.array([[0]]), [0])

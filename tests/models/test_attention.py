"""Attention at a layer against transformers' own functions, on numbers drawn at random."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from kvtool.models.attention import AttentionCall, attention

ROWS, Q_HEADS, KV_HEADS, QUERIES, KEYS, DIM = 2, 4, 2, 3, 7, 8


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("softcap", [None, 1.5])
def test_weights_and_output_equal_eager_attention(softcap: float | None) -> None:
    query = 3 * drawn(ROWS, Q_HEADS, QUERIES, DIM, seed=0)
    key = drawn(ROWS, KV_HEADS, KEYS, DIM, seed=1)
    value = drawn(ROWS, KV_HEADS, KEYS, DIM, seed=2)
    # A sliding window of four: the last query sees neither what follows nor what lies far back.
    distance = torch.arange(KEYS - QUERIES, KEYS)[:, None] - torch.arange(KEYS)
    visible = ((distance >= 0) & (distance < 4))[None, None]
    module: Any = SimpleNamespace(num_key_value_groups=2, training=False, head_dim=DIM)
    added = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    options: dict[str, Any] = {"scaling": 0.3, "softcap": softcap}
    output, weights = eager_attention_forward(module, query, key, value, added, **options)
    # Chosen queries in another order, one of them twice.
    queries = torch.tensor([[2, 0], [1, 1]])
    for mask in (visible, added):
        call = AttentionCall(query, key, mask, 0.3, softcap)
        expected = torch.stack([row[:, picks] for row, picks in zip(weights, queries, strict=True)])
        torch.testing.assert_close(call.weights(queries), expected, rtol=0, atol=1e-6)

    class Module(torch.nn.Module):
        num_key_value_groups = 2
        is_causal = True

    ours, _ = attention(Module(), query, key, value, visible, **options)
    torch.testing.assert_close(ours, output, rtol=0, atol=1e-6)


def test_without_a_mask_queries_are_the_last_positions() -> None:
    call = AttentionCall(
        drawn(1, Q_HEADS, QUERIES, DIM, seed=0), drawn(1, KV_HEADS, KEYS, DIM, seed=1), None, 1.0
    )
    weights = call.weights(torch.arange(QUERIES)[None])
    for query in range(QUERIES):
        last = KEYS - QUERIES + query
        assert (weights[0, :, query, : last + 1] > 0).all()
        assert (weights[0, :, query, last + 1 :] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, Q_HEADS, QUERIES))

"""The decoder's forward pass for training: one context, many questions on it, in bfloat16.

A sequence is a context (C tokens, causal) followed by groups of slots: N slots of L tokens each. A slot sees the
context and itself, causally; its positions go on where the context ends. So one image serves all its questions.
Same numbers as transformers' forward of every (context, slot) alone; a test compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen2Model

from kvtool.demo.training.config import EARLY_LAYERS, Slots


def _norm(weight: Tensor, x: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return weight.to(x.dtype) * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(
        x.dtype
    )


def _turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of (B, heads, T, D)."""
    one, two = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-two, one), dim=-1) * sine


def _softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.softmax(scores.float(), dim=-1).to(dtype)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, context: int, slots: Slots, context_bias: Tensor
) -> Tensor:
    """q (B, KV, G, T, D), k and v (B, KV, T, D), context_bias (B, C) -> (B, KV, G, T, D)."""
    batch, kv, group, _, dim = q.shape
    scale = 1 / math.sqrt(dim)
    k_context, v_context = k[:, :, :context], v[:, :, :context]
    causal = torch.full((context, context), -1e4, dtype=q.dtype).triu(1)
    bias = context_bias[:, None, None, None, :].to(q.dtype)
    rows = (q[:, :, :, :context] * scale).reshape(batch, kv, group * context, dim)
    scores = (
        (rows @ k_context.transpose(-1, -2)).view(batch, kv, group, context, context)
        + causal
        + bias
    )
    weights = _softmax(scores, q.dtype).view(batch, kv, group * context, context)
    outputs = [(weights @ v_context).view(batch, kv, group, context, dim)]
    start = context
    for count, length in slots:
        stop = start + count * length
        rows = q[:, :, :, start:stop] * scale
        far = rows.reshape(batch, kv, group * count * length, dim) @ k_context.transpose(-1, -2)
        far = far.view(batch, kv, group, count, length, context) + bias[..., None, :]
        own_k = k[:, :, start:stop].reshape(batch, kv, 1, count, length, dim)
        own_v = v[:, :, start:stop].reshape(batch, kv, 1, count, length, dim)
        # Slots as a batch dimension, the query heads of a group as more rows.
        by_slot = (
            rows.view(batch, kv, group, count, length, dim)
            .transpose(2, 3)
            .reshape(-1, group * length, dim)
        )
        near = by_slot @ own_k.reshape(-1, length, dim).transpose(-1, -2)
        near = near.view(batch, kv, count, group, length, length).transpose(2, 3)
        near = near + torch.full((length, length), -1e4, dtype=q.dtype).triu(1)
        weights = _softmax(torch.cat((far, near), dim=-1), q.dtype)
        far_weights, near_weights = weights[..., :context], weights[..., context:]
        seen = far_weights.reshape(batch, kv, group * count * length, context) @ v_context
        by_slot = near_weights.transpose(2, 3).reshape(-1, group * length, length) @ own_v.reshape(
            -1, length, dim
        )
        by_slot = by_slot.view(batch, kv, count, group, length, dim).transpose(2, 3)
        outputs.append(
            (seen.view(batch, kv, group, count, length, dim) + by_slot).reshape(
                batch, kv, group, -1, dim
            )
        )
        start = stop
    return torch.cat(outputs, dim=3)


def packed_positions(context_length: Tensor, context: int, slots: Slots) -> Tensor:
    """(B, T) positions: 0.. over the context, and from each context's true length on in every slot."""
    parts = [torch.arange(context)[None].expand(len(context_length), -1)]
    for count, length in slots:
        parts.append(context_length[:, None] + torch.arange(length).repeat(count)[None])
    return torch.cat(parts, dim=1)


def _layer(
    weights: tuple[Tensor, ...],
    x: Tensor,
    cosine: Tensor,
    sine: Tensor,
    context_bias: Tensor,
    heads: tuple[int, int],
    eps: float,
    context: int,
    slots: Slots,
) -> Tensor:
    """One decoder layer. All layers share one compiled graph, so the weights come as arguments."""
    weights = tuple(weight.to(x.dtype) for weight in weights)
    norm_1, q_w, q_b, k_w, k_b, v_w, v_b, o_w, norm_2, gate_w, up_w, down_w = weights
    kv, group = heads
    batch, tokens, width = x.shape
    dim = width // (kv * group)
    y = _norm(norm_1, x, eps)
    qkv = F.linear(y, torch.cat((q_w, k_w, v_w)), torch.cat((q_b, k_b, v_b)))
    qkv = qkv.view(batch, tokens, kv * (group + 2), dim).transpose(1, 2)
    q, k, v = torch.split(qkv, [kv * group, kv, kv], dim=1)
    q, k = _turn(q, cosine, sine), _turn(k, cosine, sine)
    y = _attend(q.reshape(batch, kv, group, tokens, dim), k, v, context, slots, context_bias)
    y = y.reshape(batch, kv * group, tokens, dim).transpose(1, 2).reshape(batch, tokens, width)
    x = x + F.linear(y, o_w)
    y = _norm(norm_2, x, eps)
    gate, up = F.linear(y, torch.cat((gate_w, up_w))).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, down_w)


@cache
def _compiled_layer() -> Callable[..., Tensor]:
    return torch.compile(_layer, dynamic=False)


def _weights(layer: torch.nn.Module) -> tuple[Tensor, ...]:
    names = (
        "input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.q_proj.bias", "self_attn.k_proj.weight",
        "self_attn.k_proj.bias", "self_attn.v_proj.weight", "self_attn.v_proj.bias", "self_attn.o_proj.weight",
        "post_attention_layernorm.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight",
    )  # fmt: skip
    return tuple(layer.get_parameter(name) for name in names)


def decode(
    model: Qwen2Model,
    x: Tensor,
    position: Tensor,
    context_bias: Tensor,
    context: int,
    slots: Slots,
    compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Hidden states after the last norm, and those after `EARLY_LAYERS` layers through the same norm.

    Args:
        x: (B, T, dim) input embeddings in bfloat16, T = context + sum of count * length over the slots' groups.
        position: (B, T), see `packed_positions`.
        context_bias: (B, C): 0, or a large negative number on padding of the context.
    """
    config = model.config
    kv_heads = config.num_key_value_heads or config.num_attention_heads
    heads = (kv_heads, config.num_attention_heads // kv_heads)
    angle = position[:, :, None].float() * model.rotary_emb.inv_freq.float()
    angle = torch.cat((angle, angle), dim=-1)[:, None]
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    run = _compiled_layer() if compiled else _layer
    states = []
    for layer in model.layers:
        x = run(
            _weights(layer),
            x,
            cosine,
            sine,
            context_bias,
            heads,
            config.rms_norm_eps,
            context,
            slots,
        )
        states.append(x)
    last, early = (
        _norm(model.norm.weight, state, config.rms_norm_eps)
        for state in (x, states[EARLY_LAYERS - 1])
    )
    return last, early

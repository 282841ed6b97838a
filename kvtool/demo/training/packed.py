"""The decoder's forward pass for training: one context, many questions on it, in the
precision of its inputs (kvtool.demo.training.precision).

A sequence is a context (C tokens, causal) followed by groups of slots: N slots of L tokens each. A
slot sees the context and itself, causally; its positions go on where the context ends. So one image
serves all its questions. The numbers are those of transformers' forward pass of every context with
a single slot; a test compares them.
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

HIDDEN = -1e4
"""The bias of a token that must not be seen."""


def _norm(weight: Tensor, x: Tensor, eps: float) -> Tensor:
    """Normalize by the root of the mean square, computed in float32 as transformers does."""
    y = x.float()
    scale = torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps)
    return weight.to(x.dtype) * (y * scale).to(x.dtype)


def _turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Apply the rotary embedding to (B, heads, T, D)."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


def _softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.softmax(scores.float(), dim=-1).to(dtype)


def _causal(length: int, dtype: torch.dtype) -> Tensor:
    """Return the bias (length, length) that hides later tokens."""
    return torch.full((length, length), HIDDEN, dtype=dtype).triu(1)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, context: int, slots: Slots, context_bias: Tensor
) -> Tensor:
    """Attend from every token to its context and its slot.

    q is (B, KV, G, T, D), with G query heads for each KV head; k and v are (B, KV, T, D), and
    context_bias is (B, C). The output has the shape of q.
    """
    q = q * (1 / math.sqrt(q.shape[-1]))
    bias = context_bias[:, None, None, None, :].to(q.dtype)
    k_context = k[:, :, :context]
    v_context = v[:, :, :context]
    # The context attends to itself; a slot to the context and itself, to no other slot.
    outputs = [_attend_context(q[:, :, :, :context], k_context, v_context, bias)]
    start = context
    for count, length in slots:
        stop = start + count * length
        outputs.append(
            _attend_slots(
                q[:, :, :, start:stop],
                k[:, :, start:stop],
                v[:, :, start:stop],
                k_context,
                v_context,
                bias,
                count,
            )
        )
        start = stop
    return torch.cat(outputs, dim=3)


def _attend_context(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attend causally within the context: q (B, KV, G, C, D) -> (B, KV, G, C, D)."""
    batch, kv, group, context, dim = q.shape
    # The query heads of a group share keys, so that they are more rows of one product.
    rows = q.reshape(batch, kv, group * context, dim)
    scores = (rows @ k.transpose(-1, -2)).view(batch, kv, group, context, context)
    scores = scores + _causal(context, q.dtype) + bias
    weights = _softmax(scores, q.dtype).view(batch, kv, group * context, context)
    return (weights @ v).view(batch, kv, group, context, dim)


def _attend_slots(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_context: Tensor,
    v_context: Tensor,
    bias: Tensor,
    count: int,
) -> Tensor:
    """Attend from `count` slots of L tokens to the context and, causally, to themselves.

    q is (B, KV, G, count * L, D), k and v are those of the slots' tokens. The output has the shape
    of q.
    """
    batch, kv, group, tokens, dim = q.shape
    length = tokens // count
    context = k_context.shape[2]
    # Scores of the context: all slots and query heads are rows of one product.
    context_scores = q.reshape(batch, kv, group * tokens, dim) @ k_context.transpose(-1, -2)
    context_scores = context_scores.view(batch, kv, group, count, length, context)
    context_scores = context_scores + bias[..., None, :]
    # Scores within a slot: slots are a batch dimension, the query heads of a group more rows.
    q_slot = q.reshape(batch, kv, group, count, length, dim).transpose(2, 3)
    k_slot = k.reshape(-1, length, dim)
    v_slot = v.reshape(-1, length, dim)
    slot_scores = q_slot.reshape(-1, group * length, dim) @ k_slot.transpose(-1, -2)
    slot_scores = slot_scores.view(batch, kv, count, group, length, length).transpose(2, 3)
    slot_scores = slot_scores + _causal(length, q.dtype)
    # One softmax over both, then the values of each.
    weights = _softmax(torch.cat((context_scores, slot_scores), dim=-1), q.dtype)
    context_weights = weights[..., :context].reshape(batch, kv, group * tokens, context)
    slot_weights = weights[..., context:].transpose(2, 3).reshape(-1, group * length, length)
    from_context = (context_weights @ v_context).view(batch, kv, group, count, length, dim)
    from_slot = (slot_weights @ v_slot).view(batch, kv, count, group, length, dim).transpose(2, 3)
    return (from_context + from_slot).reshape(batch, kv, group, tokens, dim)


def packed_positions(context_length: Tensor, context: int, slots: Slots) -> Tensor:
    """Return the positions (B, T) of a packed sequence.

    They count from 0 over the context, and from each context's true length on in every slot.
    """
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
    """Run one decoder layer on x (B, T, dim).

    All layers share one compiled graph, so that the weights come as arguments.
    """
    weights = tuple(weight.to(x.dtype) for weight in weights)
    norm_1, q_w, q_b, k_w, k_b, v_w, v_b, o_w, norm_2, gate_w, up_w, down_w = weights
    kv, group = heads
    batch, tokens, width = x.shape
    dim = width // (kv * group)
    # Attention: queries, keys and values of all heads come from one product.
    y = _norm(norm_1, x, eps)
    qkv = F.linear(y, torch.cat((q_w, k_w, v_w)), torch.cat((q_b, k_b, v_b)))
    qkv = qkv.view(batch, tokens, kv * (group + 2), dim).transpose(1, 2)
    q, k, v = torch.split(qkv, [kv * group, kv, kv], dim=1)
    q = _turn(q, cosine, sine)
    k = _turn(k, cosine, sine)
    y = _attend(q.reshape(batch, kv, group, tokens, dim), k, v, context, slots, context_bias)
    y = y.reshape(batch, kv * group, tokens, dim).transpose(1, 2).reshape(batch, tokens, width)
    x = x + F.linear(y, o_w)
    # The gated MLP.
    y = _norm(norm_2, x, eps)
    gate, up = F.linear(y, torch.cat((gate_w, up_w))).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, down_w)


@cache
def _compiled_layer() -> Callable[..., Tensor]:
    return torch.compile(_layer, dynamic=False)


PARAMETERS = (
    "input_layernorm.weight",
    "self_attn.q_proj.weight",
    "self_attn.q_proj.bias",
    "self_attn.k_proj.weight",
    "self_attn.k_proj.bias",
    "self_attn.v_proj.weight",
    "self_attn.v_proj.bias",
    "self_attn.o_proj.weight",
    "post_attention_layernorm.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
)
"""The parameters of a layer, in the order in which `_layer` takes them."""


def decode(
    model: Qwen2Model,
    x: Tensor,
    position: Tensor,
    context_bias: Tensor,
    context: int,
    slots: Slots,
    compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute the hidden states after the last norm, and those after `EARLY_LAYERS` layers.

    The early ones go through the same norm. Both are (B, T, dim).

    Args:
        model: The decoder.
        x: Input embeddings (B, T, dim), with T = context + the tokens of all slots.
        position: (B, T), see `packed_positions`.
        context_bias: (B, C), 0, or a large negative number on the padding of the context.
        context: C, the number of tokens of the context.
        slots: The groups of slots.
        compiled: Whether the layers run compiled.
    """
    config = model.config
    eps = config.rms_norm_eps
    kv_heads = config.num_key_value_heads or config.num_attention_heads
    heads = (kv_heads, config.num_attention_heads // kv_heads)
    # Rotary angles by position, once for all layers.
    angle = position[:, :, None].float() * model.rotary_emb.inv_freq.float()
    angle = torch.cat((angle, angle), dim=-1)[:, None]
    cosine = angle.cos().to(x.dtype)
    sine = angle.sin().to(x.dtype)
    run = _compiled_layer() if compiled else _layer
    states = []
    for layer in model.layers:
        weights = tuple(layer.get_parameter(name) for name in PARAMETERS)
        x = run(weights, x, cosine, sine, context_bias, heads, eps, context, slots)
        states.append(x)
    early = _norm(model.norm.weight, states[EARLY_LAYERS - 1], eps)
    return _norm(model.norm.weight, x, eps), early

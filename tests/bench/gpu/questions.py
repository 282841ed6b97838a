"""Questions asked from stored keys and values, with heads knocked out or with their attention
looked at, against transformers on each whole prompt.

Weights are random, so that what is greedy hangs on roundings: logits and maps are compared, not
answers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kvtool.models.attention import image_attention
from kvtool.models.cache import widened
from kvtool.models.knockout import knocked_out
from tests.bench.bench_capture import transformers_inputs
from tests.bench.gpu.machine import Bench
from tests.bench.rows import Row, row

SIZE = "7b"
QUESTIONS = ("is there a cat in the image", "is there a dog on the left", "what is the red cat")
IMAGES, REPEATED, NEW_TOKENS, PEER_ANSWERS = 4, 6, 8, 12
TOLERANCE = 0.05
"""Of the root of the mean squared difference over the reference's deviation (of logits) or size
(of maps): bfloat16 rounds each state to three digits, and both sides round other sums.
"""


def knockout(bench: Bench) -> list[Row]:
    """Answers a second under four conditions, and logits without one, against generate."""
    model = bench.subjects[SIZE].model
    images, repeated = (1, 1) if bench.is_dry else (IMAGES, REPEATED)
    texts = [model.question(text) for text in QUESTIONS] * repeated
    items = bench.subjects[SIZE].prepared[:images]
    heads = [[], [(0, 0)], [(1, 0)], [(0, 0), (1, 0)]]
    caches = [stored_cache(model, item) for item in items]
    _asked(model, caches[0], items[0], texts, heads[0])  # warms up
    bench.synchronize()
    started = time.perf_counter()
    for cache, item in zip(caches, items, strict=True):
        for blocked in heads:
            _asked(model, cache, item, texts, blocked)
    ours = len(items) * len(texts) * len(heads) / (time.perf_counter() - started)
    inputs = [whole_prompt(model, items[0], text) for text in texts]
    peers = inputs[: 1 if bench.is_dry else PEER_ANSWERS]
    peer = len(peers) / bench.seconds(lambda: _generated(model, peers), repeats=1)
    error = _logit_error(model, caches[0], items[0], texts[0], inputs[0])
    return [
        row("knockout, 4 conditions / generate", "answers/s", ours, peer, 8.0),
        _error_row("knockout: logits' error beside generate's", error),
    ]


def attend(bench: Bench) -> list[Row]:
    """Maps a second of all layers and heads against eager attention over the whole prompt."""
    model = bench.subjects[SIZE].model
    item = bench.subjects[SIZE].prepared[0]
    texts = [model.question(QUESTIONS[0])] * (2 if bench.is_dry else 8)
    cache = stored_cache(model, item)
    layers = range(model.info.geometry.layers)
    last = len(model.prompt.text_ids(texts[0])) - 1

    def ours() -> Tensor:
        """Return (text, layer, q_head, 1, image_token)."""
        rows = widened(cache, len(texts))
        samples = [item.sample] * len(texts)
        return image_attention(model, rows, samples, texts, [[last]] * len(texts), layers)

    inputs = whole_prompt(model, item, texts[0])
    expected = eager_maps(model, item, inputs)
    rates = (
        len(texts) / bench.seconds(ours),
        1 / bench.seconds(lambda: eager_maps(model, item, inputs)),
    )
    difference = ours()[0, :, :, 0] - expected
    error = float(difference.square().mean().sqrt() / expected.square().mean().sqrt())
    return [
        row("attend / eager over the whole prompt", "maps/s", *rates, 10.0),
        _error_row("attend: maps' error beside eager's", error),
    ]


def stored_cache(model: Any, item: Any) -> Any:
    """Return the cache of an image as it is restored from a store."""
    captured = model.capture([item], model.request(("key", "value"), None))
    arrays = {name: captured.arrays[name][0] for name in ("key", "value")}
    arrays |= {f"text_{name}": captured.text[name][0] for name in ("key", "value")}
    return model.restore([item.sample], [arrays])


def whole_prompt(model: Any, item: Any, text: str) -> dict[str, Any]:
    """Return transformers' inputs of an image and a text after it."""
    inputs = transformers_inputs(model, [item])
    ids = torch.tensor([model.prompt.text_ids(text)], device=model.checkpoint.device)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return inputs


@torch.inference_mode()
def eager_maps(model: Any, item: Any, inputs: dict[str, Any]) -> Tensor:
    """Return the last token's attention on the image, (layer, q_head, image_token)."""
    sample = item.sample
    image = slice(sample.image_start, sample.image_start + sample.n_tokens)
    model.language_model.set_attn_implementation("eager")
    try:
        weights = model.net.model(**inputs, output_attentions=True).attentions
    finally:
        model.language_model.set_attn_implementation(model.info.attention)
    return torch.stack([layer[0, :, -1, image].float().cpu() for layer in weights])


def _asked(model: Any, cache: Any, item: Any, texts: Sequence[str], heads: Sequence[Any]) -> None:
    with knocked_out(model, [item.sample], heads):
        model.ask(cache, item.sample, texts, NEW_TOKENS)


@torch.inference_mode()
def _generated(model: Any, inputs: Sequence[dict[str, Any]]) -> None:
    """Answer whole prompts, each alone, as greedily and as long as ours."""
    for prompt in inputs:
        model.net.generate(**prompt, max_new_tokens=NEW_TOKENS, do_sample=False)


def _logit_error(model: Any, cache: Any, item: Any, text: str, inputs: dict[str, Any]) -> float:
    """Return the logits' error at a text's last token, over the deviation of the reference's."""
    ours = model.logits(cache, [item.sample], text, last=True)[0].float().cpu()
    with torch.inference_mode():
        reference = model.net(**inputs).logits[0, -1].float().cpu()
    return float((ours - reference).square().mean().sqrt() / reference.std())


def _error_row(name: str, error: float) -> Row:
    """The error against its tolerance."""
    return row(name, "error", error, TOLERANCE, 1.0, "lower")

"""Attention maps of 100 questions about one picture, from its stored keys and values, against eager
attention over each question's whole prompt in transformers.

Every map of every layer and head is of the prompt's last token, in float32, over the full view of a
picture. The peer has the picture's tokens already, without its tower, and runs a sample of the
questions, one at a time; its memory is that of a single one. Memory is what either side takes above
the loaded model, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.bench.rows import Row, row

QUESTIONS = 100
BATCH = 3
"""Questions of one length that run together: each has a copy of the picture's keys and values."""
SAMPLED = 10
"""Questions that the peer runs."""
SIDE_PX = 192
"""A picture of so many pixels has 2 x 2 tiles beside its base view."""
WORDS = ("cat", "dog", "red circle", "blue square", "tree")


def bench() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        from tests.bench.bench_capture import demo_or_random

        name = demo_or_random(Path(folder))
        ours, peer = (measured(name, side) for side in ("ours", "peer"))
    shape = f"{QUESTIONS} questions, {ours['tokens']} image tokens"
    equal = sum(
        np.allclose(mine, theirs, atol=1e-4)
        for mine, theirs in zip(ours["maps"], peer["maps"], strict=False)
    )
    return [
        row(f"attend, {shape}", "maps/s", ours["maps_per_s"], peer["maps_per_s"], 10.0),
        row("attend: memory above the model", "MB", ours["mb"], peer["mb"], 0.1, "lower"),
        row(f"attend: maps equal to eager's, of {SAMPLED}", "maps", equal, SAMPLED, 1.0),
    ]


def measured(name: str, side: str) -> dict[str, Any]:
    """What a process of its own says of one side."""
    command = [sys.executable, "-m", "tests.bench.bench_attend", "--side", side, name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    record: dict[str, Any] = json.loads(output.splitlines()[-1])
    return record


def questions() -> list[str]:
    """As many different texts."""
    return [f"Is there a {WORDS[n % len(WORDS)]} in row {n} of it?" for n in range(QUESTIONS)]


def print_side(name: str, side: str) -> None:
    """Print how fast one side is, what memory it takes, and the first maps of the last layer."""
    from kvtool.models import load_model
    from tests.bench.bench_capture import picture

    model: Any = load_model(name, dtype="float32", attention="sdpa" if side == "ours" else "eager")
    image = picture(0).resize((SIDE_PX, SIDE_PX))
    prepared = model.prepare(image, id="0", index=0, view="full")
    maps_of = stored_maps(model, prepared) if side == "ours" else eager_maps(model, prepared)
    texts = [model.question(text) for text in questions()]
    texts = texts if side == "ours" else texts[:SAMPLED]
    # One text warms up what is loaded late; the peak that counts begins afterwards.
    maps_of(texts[:1])
    reset_peak()
    before = resident_mb("VmRSS")
    started = time.perf_counter()
    maps = maps_of(texts)
    seconds = time.perf_counter() - started
    record = {
        "tokens": prepared.sample.n_tokens,
        "maps_per_s": len(texts) / seconds,
        "mb": max(0.1, resident_mb("VmHWM") - before),
        "maps": [entry[-1, 0].tolist() for entry in maps[:SAMPLED]],
    }
    print(json.dumps(record))


def reset_peak() -> None:
    """Forget the most that the process held so far."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_mb(field: str) -> float:
    """VmRSS, what the process holds, or VmHWM, the most that it held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def stored_maps(model: Any, prepared: Any) -> Callable[[Sequence[str]], Any]:
    """Maps (text, layer, q_head, image_token) from keys and values as a store holds them."""
    from kvtool.models.attention import image_attention
    from kvtool.models.cache import widened

    captured = model.capture([prepared], model.request(("key", "value"), None))
    arrays = {name: captured.arrays[name][0] for name in ("key", "value")}
    arrays |= {f"text_{name}": captured.text[name][0] for name in ("key", "value")}
    sample = prepared.sample
    layers = range(model.info.geometry.layers)

    def maps_of(texts: Sequence[str]) -> Any:
        cache = model.restore([sample], [arrays])
        lengths = [len(model.token_spans(text)) for text in texts]
        maps: list[Any] = [None] * len(texts)
        for length in sorted(set(lengths)):
            indices = [index for index, value in enumerate(lengths) if value == length]
            for start in range(0, len(indices), BATCH):
                batch = indices[start : start + BATCH]
                attention = image_attention(
                    model,
                    widened(cache, len(batch)),
                    [sample] * len(batch),
                    [texts[index] for index in batch],
                    [[length - 1]] * len(batch),
                    layers,
                )
                for index, row_maps in zip(batch, attention, strict=True):
                    maps[index] = row_maps[:, :, 0].numpy()
        return maps

    return maps_of


def eager_maps(model: Any, prepared: Any) -> Callable[[Sequence[str]], Any]:
    """The same from the weights that eager attention gives over the whole prompt."""
    sample = prepared.sample
    image = slice(sample.image_start, sample.image_start + sample.n_tokens)
    with torch.inference_mode():
        tokens = model.before_decoder([prepared], (), project=True).tokens

    @torch.inference_mode()
    def maps_of(texts: Sequence[str]) -> Any:
        maps = []
        for text in texts:
            ids = torch.tensor([model.prompt.text_ids(text)])
            before = model.prompt_embeddings([sample], tokens)
            embeddings = torch.cat([before, model.after_images([sample], model.embed(ids))], 1)
            weights = model.language_model(
                inputs_embeds=embeddings, output_attentions=True
            ).attentions
            maps.append(torch.stack([layer[0, :, -1, image] for layer in weights]).numpy())
        return maps

    return maps_of


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("model", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print_side(options.model, options.side)
    else:
        for result in bench():
            print(result)

"""The table of docs/benchmarks.md: what the paper's whole study of a 7B model takes, by limit.
`python -m tests.bench.study_cost` measures the encoder here and writes it again.

Bytes are the store's own estimate (kvtool.store.estimate), operations those of transformers'
forward of the 7B shape, counted without weights; both do not depend on the machine. The encoder's
rates are measured and kept in docs/figures/study-cost.json. A test compares all of it.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.store.encoding import Codec, encode_chunk
from kvtool.store.estimate import LZ4_RATIO, sample_bytes
from kvtool.types import Geometry, GridSpan, Kind, ModelInfo, Sample
from tests.bench.bench_store import TOKENS, part_arrays
from tests.support.model_shapes import SHAPES, write_files
from tests.tools.source import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
DIGEST = ROOT / "docs" / "figures" / "study-cost.json"
GPU_FLOPS = 450e12
DISK_BYTES = 2e9
CORES = 16
"""What the table assumes: the GPU's rate in this prefill, the disk's, and the cores that encode."""
TEMPLATE_TOKENS, PREFIX_TOKENS = 14, 30
"""Tokens before an image: the chat template's alone, and with a sentence of a prefix."""
ALL_KINDS: tuple[Kind, ...] = ("key", "value", "projected", "vision")
DECODER_KINDS: tuple[Kind, ...] = ("key", "value")
"""A prefixed run stores no more: what is before the decoder is the plain run's."""


@dataclass(frozen=True)
class Extracted:
    """A data set of the study: its pictures, and how many of these run again under a prefix."""

    name: str
    n_images: int
    n_prefixed: int = 0


STUDY = (
    Extracted("Pascal-5i, fold 0", 345),
    Extracted("MSRC, 7 classes", 70),
    Extracted("ImageNet-S 50, validation", 752),
    Extracted("RefCOCO, val; 3 prefixes", 1500, 4500),
    Extracted("SPair-71k; 3 prefixes", 1800, 5400),
    Extracted("DAVIS 2017, val", 1999),
    Extracted("BDD-10K, val; 3 prefixes of two domains", 1000, 1500),
    Extracted("POPE", 500),
    Extracted("MME, 4 subsets", 120),
    Extracted("CV-Bench", 2638),
    Extracted("BLINK, 7 tasks, val", 1543),
    Extracted("COCO, for variances", 1000),
)
Figures = dict[str, Any]


def model_info() -> ModelInfo:
    """Return the 7B shape as a run records it."""
    shape = SHAPES["7b"]
    dim = shape.hidden // shape.q_heads
    tower = (shape.tower_layers, shape.tower_hidden)
    geometry = Geometry(shape.layers, shape.q_heads, shape.kv_heads, dim, shape.hidden, *tower)
    return ModelInfo("7b", "", "llava_onevision", geometry, "bfloat16", "sdpa")


@dataclass(frozen=True)
class Selection:
    """Which arrays a run keeps: of every layer."""

    kinds: tuple[Kind, ...]
    layers: tuple[int, ...] = tuple(range(SHAPES["7b"].layers))
    vision_layers: tuple[int, ...] = (SHAPES["7b"].tower_layers - 1,)


def image_bytes(kinds: tuple[Kind, ...], n_text: int) -> int:
    """Return the bytes of a picture in the base view after n_text tokens of text."""
    shape = SHAPES["7b"]
    side = shape.image_px // shape.patch_px
    span = GridSpan("base", 0, (side, side), side, (0.0, 0.0, 640.0, 480.0))
    n = side**2
    sample = Sample("0", 0, (640, 480), n, (span,), n, (span,), "", (1,) * n_text, n_text, 0)
    return sample_bytes(sample, model_info(), Selection(kinds))


def image_flops(n_text: int, with_tower: bool) -> int:
    """Return the operations of a picture's prefill, as transformers' modules run it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from kvtool.models import load_model

    shape = SHAPES["7b"]
    n_tokens = (shape.image_px // shape.patch_px) ** 2 + n_text
    with tempfile.TemporaryDirectory() as folder:
        write_files(shape, Path(folder))
        model: Any = load_model(folder, weights=False)
    network = model.net.model
    pixels = torch.empty(1, 3, shape.image_px, shape.image_px, device="meta")
    embeddings = torch.empty(1, n_tokens, shape.hidden, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        if with_tower:
            network.multi_modal_projector(network.vision_tower(pixels).last_hidden_state)
        # Plain causal: a mask could not be made of tensors without values.
        masks = {"full_attention": None}
        model.language_model(inputs_embeds=embeddings, attention_mask=masks, use_cache=False)
    total: int = counter.get_total_flops()
    return total


def encoder_rate(codec: Codec) -> tuple[float, float]:
    """Return bytes a second that one core encodes, in processor time, and stored over raw bytes."""
    bits = part_arrays(0)["key"][:2]
    chunks = bits.reshape(-1, TOKENS, bits.shape[-1])
    rates = []
    for _ in range(3):
        started = time.process_time()
        n_bytes = sum(len(encode_chunk(chunk, codec)) for chunk in chunks)
        rates.append(chunks.nbytes / (time.process_time() - started))
    return max(rates), n_bytes / chunks.nbytes


def measure() -> Figures:
    """Return what the table is made of beside the store's estimate."""
    rates = {codec: encoder_rate(codec) for codec in ("lz4", "none")}
    return {
        "plain_flops": image_flops(TEMPLATE_TOKENS, True),
        "prefixed_flops": image_flops(PREFIX_TOKENS, False),
        "encoder_mbytes_per_core": {codec: round(rate / 1e6) for codec, (rate, _) in rates.items()},
        "encoder_ratio": {codec: round(ratio, 3) for codec, (_, ratio) in rates.items()},
        "numpy": np.__version__,
    }


def table(figures: Figures) -> str:
    """Return the table in Markdown: a row a data set, and the sum."""
    lines = [
        "| data set | pictures | runs with a prefix | raw, GB | GPU, s | encoder lz4, s | "
        "encoder none, s | disk lz4, s | disk none, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    plain, prefixed = (
        image_bytes(ALL_KINDS, TEMPLATE_TOKENS),
        image_bytes(DECODER_KINDS, PREFIX_TOKENS),
    )
    total = Extracted(
        "**all**", sum(part.n_images for part in STUDY), sum(part.n_prefixed for part in STUDY)
    )
    for part in (*STUDY, total):
        n_bytes = part.n_images * plain + part.n_prefixed * prefixed
        flops = part.n_images * figures["plain_flops"] + part.n_prefixed * figures["prefixed_flops"]
        rates = figures["encoder_mbytes_per_core"]
        seconds = (
            flops / GPU_FLOPS,
            *(n_bytes / (rates[codec] * 1e6 * CORES) for codec in ("lz4", "none")),
            n_bytes * LZ4_RATIO["bfloat16"] / DISK_BYTES,
            n_bytes / DISK_BYTES,
        )
        cells = (f"{part.n_images:,}", f"{part.n_prefixed:,}", f"{n_bytes / 1e9:,.1f}")
        listed = (part.name, *cells, *(f"{second:,.0f}" for second in seconds))
        lines.append("| " + " | ".join(listed) + " |")
    return "\n".join(lines)


def filled(page: str, figures: Figures) -> str:
    """Return a page with the table, and what it was made of, between its marks."""
    rates = figures["encoder_mbytes_per_core"]
    ratio = figures["encoder_ratio"]["lz4"]
    sentence = (
        f"A picture takes {image_bytes(ALL_KINDS, TEMPLATE_TOKENS) / 1e6:.1f} MB and "
        f"{figures['plain_flops'] / 1e12:.1f} TFLOP, under a prefix "
        f"{image_bytes(DECODER_KINDS, PREFIX_TOKENS) / 1e6:.1f} MB and "
        f"{figures['prefixed_flops'] / 1e12:.1f} TFLOP. The encoder takes {rates['lz4']:,} MB/s a "
        f"core with lz4 (stored over raw {ratio:.2f}) and {rates['none']:,} MB/s without."
    )
    return re.sub(
        r"(<!-- study -->\n\n).*?(\n\n<!-- end of study -->)",
        lambda match: match[1] + sentence + "\n\n" + table(figures) + match[2],
        page,
        flags=re.DOTALL,
    )


def saved() -> Figures:
    """Return what was measured last."""
    figures: Figures = json.loads(DIGEST.read_text())
    return figures


def main() -> None:
    """Measure, and write the figures and the page."""
    figures = measure()
    DIGEST.write_text(json.dumps(figures, indent=1) + "\n")
    PAGE.write_text(filled(PAGE.read_text(), figures))


if __name__ == "__main__":
    main()

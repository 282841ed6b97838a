"""What a 7B and a 72B model need, in README.md: `python -m tests.tools.needs` writes it again.

The figures are kvtool's own estimates, of networks in the shapes of the public checkpoints and
without weights: those of `extract --dry-run`, of the room of a batch, and operations counted from
parameters. They are kept in docs/figures/needs.json, of which README's part is made.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import LlavaOnevisionConfig, LlavaOnevisionImageProcessorPil

from kvtool.engine.local import estimate
from kvtool.engine.plan import Job
from kvtool.engine.room import BATCH_IMAGES, image_bytes
from kvtool.models import load_model
from kvtool.models.base import Request
from kvtool.models.memory import network_bytes
from kvtool.store.estimate import expected_bytes
from kvtool.types import KINDS
from tests.support.tiny_words import LLAVA_TEMPLATE, token_id, tokenizer
from tests.tools.source import ROOT

DIGEST = ROOT / "docs" / "figures" / "needs.json"
README = ROOT / "README.md"
PICTURES = (1_000, 10_000)
OPERATIONS_PER_SECOND = 100e12
"""The assumed rate of a GPU: what it does in the end, not what its maker names."""
NAME = "llava-hf/llava-onevision-qwen2-{size}-ov-hf"
TOWER_LAYERS = 26
TOWER: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": TOWER_LAYERS,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
DECODERS = {
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "72b": {
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}
"""Shapes of the public config.json files, by the size in a checkpoint's name."""
Needs = dict[str, dict[str, float]]


def write_shape(folder: Path, decoder: dict[str, int]) -> Path:
    """Write a checkpoint without weights: its configuration, image processor and some tokenizer."""
    text = {"model_type": "qwen2", "vocab_size": 152_000, "tie_word_embeddings": False, **decoder}
    config = LlavaOnevisionConfig(
        vision_config=TOWER,
        text_config=text,
        tie_word_embeddings=False,
        image_token_index=token_id("<image>"),
        video_token_index=token_id("<video>"),
        image_grid_pinpoints=[[384, 384]],
    )
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": 384, "width": 384}, image_grid_pinpoints=[[384, 384]]
    )
    for part in (config, processor, tokenizer(LLAVA_TEMPLATE)):
        part.save_pretrained(folder)
    return folder


def measure(decoder: dict[str, int]) -> dict[str, float]:
    """Return what one model needs: bytes, operations a picture, and tokens a picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = Image.new("RGB", (640, 480), "gray")
        (folder / "pictures").mkdir()
        picture.save(folder / "pictures" / "gray.png")
        checkpoint = write_shape(folder / "model", decoder)
        job = Job(str(folder / "a.kv"), str(checkpoint), f"folder:{folder / 'pictures'}")
        size = estimate(job)
        model: Any = load_model(str(checkpoint), dtype=job.dtype, weights=False)
        sample = model.prepare(picture, id="gray", index=0).sample
        layers = tuple(range(decoder["num_hidden_layers"]))
        request = Request(KINDS, layers, (TOWER_LAYERS - 1,))
        room = image_bytes(sample, model.info, request)
        return {
            "weights_bytes": network_bytes(model.net, torch.bfloat16),
            "batch_bytes": BATCH_IMAGES * room,
            "image_bytes": size.image_bytes,
            "stored_bytes": expected_bytes(size.image_bytes, job.codec, job.dtype),
            "n_tokens": sample.n_tokens,
            "operations": operations(model.net, sample.n_tokens + sample.image_start),
        }


def operations(network: Any, n_tokens: int) -> float:
    """Return the operations of one picture's pass: a multiplication and an addition for each
    parameter and token, and attention's products of all pairs of tokens.

    Embedding and output are left out: no product is taken of the one, and no text is written.
    """
    parts = (network.model.vision_tower, network.model.language_model.layers)
    weights = sum(parameter.numel() for part in parts for parameter in part.parameters())
    text = network.config.text_config
    pairs = 4 * text.num_hidden_layers * text.hidden_size * n_tokens**2
    return float(2 * weights * n_tokens + pairs)


def saved() -> Needs:
    """Return the estimates that README's part was made of."""
    needs: Needs = json.loads(DIGEST.read_text())
    return needs


def table(needs: Needs) -> str:
    """Return README's part: a sentence on what was assumed, and a column a model."""
    names = [f"`{NAME.format(size=size)}`" for size in needs]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    rows = {
        "weights, bfloat16": [f"{_gb(need['weights_bytes'])} GB" for need in needs.values()],
        f"a batch of {BATCH_IMAGES} pictures": [
            f"{_gb(need['batch_bytes'])} GB" for need in needs.values()
        ],
    }
    for n_pictures in PICTURES:
        rows[f"store of {n_pictures:,} pictures, lz4"] = [
            f"{_gb(n_pictures * need['stored_bytes'])} GB" for need in needs.values()
        ]
    for n_pictures in PICTURES:
        rows[f"hours for {n_pictures:,} pictures, reckoned"] = [
            hours(need["operations"], n_pictures) for need in needs.values()
        ]
    rows["growth of the store at that rate"] = [
        f"{need['stored_bytes'] / seconds(need['operations'], 1) / 1e6:.0f} MB/s"
        for need in needs.values()
    ]
    lines += [f"| {label} | {' | '.join(cells)} |" for label, cells in rows.items()]
    tokens = {round(need["n_tokens"]) for need in needs.values()}
    return (
        f"Estimated from the checkpoints' shapes, not measured: {tokens.pop()} tokens a picture "
        "(`--view base`), all layers, heads and\nkinds. Hours are operations divided by a rate "
        f"that was assumed, {OPERATIONS_PER_SECOND / 1e12:.0f} TFLOP/s all in all; reading "
        "pictures\nis left out, and so is a disk that cannot write as fast as the last row "
        "says.\n\n" + "\n".join(lines)
    )


def hours(operations_a_picture: float, n_pictures: int) -> str:
    """Return the hours of a number of pictures at the assumed rate, with two digits."""
    return f"{seconds(operations_a_picture, n_pictures) / 3600:.2g}"


def seconds(operations_a_picture: float, n_pictures: int) -> float:
    """Return the seconds of a number of pictures at the assumed rate."""
    return n_pictures * operations_a_picture / OPERATIONS_PER_SECOND


def _gb(n_bytes: float) -> str:
    """Return bytes as gigabytes (10^9), with two digits or as a whole number."""
    value = n_bytes / 1e9
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def filled(page: str, needs: Needs) -> str:
    """Return a page with its part `<!-- needs -->` made from the estimates."""
    return re.sub(
        r"(<!-- needs -->\n\n).*?(\n\n<!-- end of needs -->)",
        lambda match: match[1] + table(needs) + match[2],
        page,
        flags=re.DOTALL,
    )


def main() -> None:
    """Estimate again, and write digest and README."""
    needs = {size: measure(decoder) for size, decoder in DECODERS.items()}
    DIGEST.write_text(json.dumps(needs, indent=1) + "\n")
    README.write_text(filled(README.read_text(), needs))


if __name__ == "__main__":
    main()

"""Tiny models for adapters, and pictures with captions: red ones of a cat, blue ones of a dog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kvtool.adapters.examples import Exchange, examples
from kvtool.adapters.folder import begin, joined, load_adapter
from kvtool.models.adapters import AdapterSettings
from kvtool.models.families.linear_adapter import LinearAdapter
from tests.support import tiny
from tests.support.datasets.files import json_lines, label_png, write_json
from tests.support.datasets.own_data import OWN_CLASSES
from tests.support.tiny_language import llama

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} {{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template of a model that reads text alone: what a user says is one string."""
WHAT = "what is there"
CAPTIONS = ("the red cat", "a blue dog on the left")
COLORS = ((200, 30, 30), (30, 30, 200))


def parts(root: Path, template: str = CHAT) -> tuple[Path, Path]:
    """A tiny language model and a tiny tower."""
    return llama(root / "language", template), tiny.dinov2(root / "vision")


def pictures(root: Path, count: int = 20) -> Path:
    """A data set of one's own: pictures of two colors in turn, captions, masks of what is shown."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        kind = number % 2
        pixels = rng.integers(90, 110, (48, 48, 3)).astype(np.uint8)
        labels = np.zeros((48, 48), np.uint8)
        # Whole patches of the tower's grid, so that none is unsure.
        top = 16 * int(rng.integers(0, 2))
        pixels[top : top + 32, :32] = COLORS[kind]
        labels[top : top + 32, :32] = kind + 1
        path = root / f"images/p{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        label_png(root / f"masks/p{number:02d}.png", labels, palette=False)
        lines.append({"image": f"p{number:02d}", "caption": CAPTIONS[kind]})
    write_json(root / "classes.json", OWN_CLASSES)
    json_lines(root / "captions.jsonl", lines)
    return root


def begun(root: Path, pool: int = 1, **options: Any) -> LinearAdapter:
    """The model of an adapter whose layer gives nothing yet."""
    language, vision = parts(root)
    settings = AdapterSettings(joined(str(language)), joined(str(vision)), 2, pool)
    begin(root / "adapter", settings)
    return load_adapter(root / "adapter", **{"dtype": "float32", **options})


def lesson(model: LinearAdapter, count: int = 8) -> tuple[torch.Tensor, list[Any]]:
    """Random features of images, two groups of them apart, and what is said of each group."""
    (patches,) = model.prepare(tiny.noise(64, 64), id="a", index=0).sample.spans
    n_tokens = patches.grid[0] * patches.grid[1]
    generator = torch.Generator().manual_seed(1)
    d = model.linear.in_features
    tokens = torch.randn(count, n_tokens, d, generator=generator)
    tokens[::2] += 1.5
    exchanges = [Exchange(row, WHAT, CAPTIONS[row % 2]) for row in range(count)]
    return tokens, examples(model, exchanges)

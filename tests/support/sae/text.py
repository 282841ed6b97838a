"""Text for SAEs, and their training on a tiny model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import kvtool
from kvtool.autoencoders.text_training import TrainedSae

WORDS = ("red", "blue", "cat", "dog", "there", "image", "what", "yes", "left", "colour")
QUICK: dict[str, Any] = {
    "width": 24,
    "k": 3,
    "steps": 30,
    "batch_size": 64,
    "context": 12,
    "dtype": "float32",
    "device": "cpu",
}


def write_text(path: Path) -> Path:
    """Write 60 documents, some longer than a context, some equal, some empty."""
    rng = random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) for _ in range(55)]
    path.write_text("\n".join([*lines, "", "  ", *lines[:3]]) + "\n")
    return path


def train(out: Path, model: Path, text: Path, **options: Any) -> tuple[TrainedSae, ...]:
    """Train SAEs of the first and the last layer of three, in a second."""
    settings = {"layers": [0, 2], **QUICK, **options}
    return kvtool.sae_train(out, model=str(model), text=[text], **settings)

"""A tiny real model's run over captioned pictures with masks, and SAEs of its width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import kvtool
from kvtool.autoencoders.activations import JumpReLU
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.autoencoders.saving import save_sae
from kvtool.store import Run
from tests.support.datasets.files import json_lines, label_png, picture, write_json

WIDTH = 32
FEATURES = 48
CAPTIONS = {
    "cat": ("a red cat is on the left", "the cat is there"),
    "dog": ("the blue dog is in the image", "a dog is there"),
}


def captioned(root: Path, n_images: int = 8) -> Path:
    """Pictures of a cat or a dog, their masks, and two captions each."""
    lines = []
    for number in range(n_images):
        category = ("cat", "dog")[number % 2]
        picture(root / f"images/p{number}.png", seed=number)
        labels = np.zeros((24, 32), np.uint8)
        labels[:12, : 8 + 8 * (number % 3)] = 1 + number % 2
        label_png(root / f"masks/p{number}.png", labels, palette=False)
        lines += [{"image": f"p{number}", "caption": text} for text in CAPTIONS[category]]
    write_json(root / "classes.json", {"names": {"1": "cat", "2": "dog"}, "void": 255})
    json_lines(root / "captions.jsonl", lines)
    return root


def tiny_run(folder: Path, model: Path, **options: Any) -> Run:
    data = captioned(folder / "data")
    store = folder / "s.kv"
    kvtool.extract(store, model=str(model), dataset=f"own:{data}", dtype="float32", **options)
    return kvtool.open(store).run()


def random_sae(layer: int, width: int = WIDTH, seed: int = 0) -> SparseAutoencoder:
    generator = torch.Generator().manual_seed(seed + 10 * layer)
    encoder = torch.randn(width, FEATURES, generator=generator) / width**0.5
    return SparseAutoencoder(
        encoder,
        torch.zeros(FEATURES),
        encoder.T.contiguous(),
        torch.randn(width, generator=generator) / 10,
        JumpReLU(torch.full((FEATURES,), 0.05)),
        Origin("saelens", "random", layer=layer),
    )


def write_saes(folder: Path, layers: tuple[int, ...] = (0, 2), width: int = WIDTH) -> Path:
    for layer in layers:
        save_sae(random_sae(layer, width), folder / f"layer_{layer}")
    return folder

"""SAE files as eight libraries write them, each with a slow and obvious encoder and decoder.

A writer draws random weights, writes them in its library's layout, and returns what the library
computes, token by token, as its documentation and code define it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[Any]
Vector = Callable[[Array], Array]

D = 6
M = 15
K = 5


@dataclass(frozen=True)
class Written:
    """An SAE on disk: its path, and what its library makes of one token."""

    path: Path
    features: Vector
    reconstruction: Vector


class Weights:
    """Random weights of one SAE, and the steps that libraries compose."""

    def __init__(self, seed: int = 0, m: int = M) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.encoder = self.draw(D, m)
        self.encoder_bias = 0.1 * self.draw(m)
        self.decoder = self.draw(m, D)
        self.decoder_bias = self.draw(D)
        self.threshold = np.abs(self.draw(m)) * 0.5

    def draw(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(np.float32)

    def pre(self, x: Array, centered: bool = False) -> Array:
        start = x - self.decoder_bias if centered else x
        return start @ self.encoder + self.encoder_bias

    def out(self, features: Array) -> Array:
        return features @ self.decoder + self.decoder_bias


def relu(pre: Array) -> Array:
    return np.maximum(pre, 0)


def jump(pre: Array, threshold: Any) -> Array:
    return np.where(pre > threshold, relu(pre), 0).astype(np.float32)


def top(pre: Array, k: int, rank_by: Array | None = None) -> Array:
    """Only the k entries that rank first stay."""
    best = np.argsort(-(pre if rank_by is None else rank_by), kind="stable")[:k]
    features = np.zeros_like(pre)
    features[best] = pre[best]
    return features


def write_json(path: Path, record: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def write_tensors(path: Path, **tensors: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    return path


def write_pickle(path: Path, state: dict[str, Any], header: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }
    with path.open("wb") as file:
        file.write(header.encode())
        torch.save(tensors, file)
    return path

"""Sizes and weights of the tiny checkpoints, and how one is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.support.tiny_words import VOCABULARY

TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 4,
    "pad_token_id": 0,
}
VISION: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def randomize(network: Any, scale: float = 0.5) -> None:
    """Weights large enough that attention is not flat and every input matters.

    They depend on nothing that ran before: vectors that transformers draws (class tokens, newlines
    of images) are drawn again, and those that are all ones or zeros (norms, biases) stay.
    """
    generator = torch.Generator().manual_seed(0)
    vectors = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            bound = scale / parameter[0].numel() ** 0.5 if "embed" not in name else 0.2
            parameter.data = torch.empty_like(parameter).normal_(0, 2 * bound, generator=generator)
        elif parameter.unique().numel() > 1:
            deviation = parameter.numel() ** -0.5
            parameter.data = torch.empty_like(parameter).normal_(0, deviation, generator=vectors)


def save(
    folder: Path, network: Any, processor: Any, words: Any = None, settings: Any = None
) -> Path:
    """Write a checkpoint; settings: those of its processor of image and text, if it has some."""
    randomize(network)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    if words is not None:
        words.save_pretrained(folder)
    if settings is not None:
        (folder / "processor_config.json").write_text(json.dumps(settings))
    return folder

"""LLaVA-OneVision models of published sizes with random weights, made on the device itself: no
file of weights is read or written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from tests.support.tiny_words import LLAVA_TEMPLATE, token_id, tokenizer


@dataclass(frozen=True)
class Shape:
    """The sizes of a model's decoder and of its tower."""

    layers: int
    hidden: int
    intermediate: int
    q_heads: int
    kv_heads: int
    vocabulary: int
    tower_layers: int = 26
    tower_hidden: int = 1152
    tower_intermediate: int = 4304
    tower_heads: int = 16
    image_px: int = 384
    patch_px: int = 14


_TOWER = {"tower_layers": 2, "tower_hidden": 32, "tower_intermediate": 48, "tower_heads": 2}
_PIXELS = {"image_px": 34, "patch_px": 8}
SHAPES = {
    "7b": Shape(28, 3584, 18944, 28, 4, 152064),
    "0.5b": Shape(24, 896, 4864, 14, 2, 152000),
}
"""The decoders of Qwen2 7B and 0.5B, with SigLIP's tower of 729 patches."""
DRY_SHAPES = {
    "7b": Shape(3, 64, 96, 4, 2, 96, **_TOWER, **_PIXELS),
    "0.5b": Shape(2, 32, 48, 2, 1, 96, **_TOWER, **_PIXELS),
}


def random_model(shape: Shape, folder: Path, device: torch.device) -> Any:
    """Return a model of a shape in bfloat16, loaded as ever but for its weights.

    folder: takes its small files: configuration, processor, tokenizer.
    """
    from kvtool.models import load_model

    write_files(shape, folder)
    with patch("kvtool.models.loading.load_network", _random_network):
        return load_model(str(folder), device=str(device), dtype="bfloat16")


def _random_network(
    checkpoint: Any, network: Any, config: Any, _shape: nn.Module, _options: dict[str, Any]
) -> nn.Module:
    """Stand in for load_network: weights are drawn on the device."""
    torch.manual_seed(0)
    with torch.device(checkpoint.device):
        loaded: nn.Module = network._from_config(
            config, dtype=checkpoint.dtype, attn_implementation=checkpoint.settings.attention
        )
    return loaded.eval()


def write_files(shape: Shape, folder: Path) -> None:
    """Write what a checkpoint has beside its weights, and a file of no weight in their place."""
    from safetensors.torch import save_file
    from transformers import LlavaOnevisionConfig, LlavaOnevisionImageProcessorPil

    pinpoints = [[rows * shape.image_px, shape.image_px] for rows in (1, 2)]
    config = LlavaOnevisionConfig(
        vision_config=_tower_config(shape),
        text_config=_text_config(shape),
        image_token_index=token_id("<image>"),
        video_token_index=token_id("<video>"),
        image_grid_pinpoints=pinpoints,
        vision_aspect_ratio="anyres_max_9",
        tie_word_embeddings=False,
    )
    config.save_pretrained(folder)
    side = {"height": shape.image_px, "width": shape.image_px}
    processor = LlavaOnevisionImageProcessorPil(size=side, image_grid_pinpoints=pinpoints)
    processor.save_pretrained(folder)
    tokenizer(LLAVA_TEMPLATE).save_pretrained(folder)
    # The model's revision is a digest of this file, too.
    save_file({"empty": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})


def _tower_config(shape: Shape) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "num_hidden_layers": shape.tower_layers,
        "hidden_size": shape.tower_hidden,
        "intermediate_size": shape.tower_intermediate,
        "num_attention_heads": shape.tower_heads,
        "image_size": shape.image_px,
        "patch_size": shape.patch_px,
        "vision_use_head": False,
    }


def _text_config(shape: Shape) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_attention_heads": shape.q_heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 32768,
        "bos_token_id": token_id("<s>"),
        "eos_token_id": token_id("<|im_end|>"),
        "pad_token_id": token_id("<unk>"),
    }

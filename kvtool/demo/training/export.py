"""From a checkpoint of a run to what is shipped: model, tower, small stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration, SiglipVisionModel

from kvtool.demo.training import config as sizes
from kvtool.demo.training.model import new_model, vision_config
from kvtool.demo.training.text import build_tokenizer, token_ids

NORMALIZATION = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_convert_rgb": True,
    "do_resize": True,
    "resample": 3,
    "size": {"height": sizes.IMAGE_PX, "width": sizes.IMAGE_PX},
}


def write_json(path: Path, content: object) -> None:
    """Write the content as indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def quantized(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Store matrices as int8 with a float32 scale a row (`NAME.scale`), the rest as bfloat16."""
    small = {}
    for name, weight in state.items():
        # Vectors are small: they keep their precision.
        if weight.ndim < 2:
            small[name] = weight.to(torch.bfloat16)
            continue
        # A scale for each row: one large row would cost the others their precision.
        rows = weight.float().flatten(1)
        scale = rows.abs().amax(dim=1).clamp_min(1e-12) / 127
        small[name] = (rows / scale[:, None]).round().to(torch.int8).view(weight.shape)
        small[f"{name}.scale"] = scale
    return small


def export_model(model: LlavaOnevisionForConditionalGeneration, folder: Path) -> None:
    """Write a folder that transformers reads as a model, a tokenizer and an image processor.

    The weights are in bfloat16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A copy, so that the run's own weights stay in float32.
    copy: Any = new_model(0)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16)
    copy.generation_config.eos_token_id = token_ids()["<|im_end|>"]
    copy.generation_config.pad_token_id = token_ids()["<pad>"]
    copy.generation_config.do_sample = False
    copy.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "image_grid_pinpoints": sizes.PINPOINTS,
            "do_pad": True,
            **NORMALIZATION,
        },
    )


def export_tower(state: dict[str, Tensor], folder: Path) -> None:
    """Write the tower within a whole model's state as a SiglipVisionModel."""
    folder.mkdir(parents=True, exist_ok=True)
    tower: Any = SiglipVisionModel(vision_config())
    prefix = "model.vision_tower."
    tower.load_state_dict(
        {
            name.removeprefix(prefix): weight
            for name, weight in state.items()
            if name.startswith(prefix)
        }
    )
    tower.to(torch.bfloat16).save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {"image_processor_type": "SiglipImageProcessor", **NORMALIZATION},
    )


def export_stage(state: dict[str, Tensor], folder: Path) -> None:
    """Write an early checkpoint in the small form of `quantized`.

    `kvtool.demo.weights` reads it back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tied = {name: weight for name, weight in state.items() if name != "lm_head.weight"}
    save_file(quantized(tied), str(folder / "weights.int8.safetensors"))

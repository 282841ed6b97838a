"""Tiny random checkpoints of the real transformers classes, written the way published ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support.tiny_families import gemma3, idefics3, internvl, mistral3, qwen3_vl, smolvlm
from tests.support.tiny_parts import TEXT, VISION, randomize, save
from tests.support.tiny_unlike import gemma4, qwen3_5, qwen3_5_moe, qwen3_vl_moe
from tests.support.tiny_words import (
    LLAVA_TEMPLATE,
    QWEN_TEMPLATE,
    text_tokenizer,
    token_id,
    tokenizer,
)

__all__ = [
    "TEXT",
    "VISION",
    "gemma3",
    "gemma4",
    "idefics3",
    "internvl",
    "mistral3",
    "noise",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_vl",
    "qwen3_vl_moe",
    "randomize",
    "save",
    "smolvlm",
]


def llava_onevision(folder: Path) -> Path:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessorPil,
    )

    pinpoints = [[rows * 34, cols * 34] for rows in (1, 2, 3) for cols in (1, 2, 3)]
    tower = {
        "model_type": "siglip_vision_model",
        "image_size": 34,
        "patch_size": 8,
        "vision_use_head": False,
    }
    config = LlavaOnevisionConfig(
        vision_config={**VISION, **tower},
        text_config={"model_type": "qwen2", **TEXT},
        image_token_index=token_id("<image>"),
        video_token_index=token_id("<video>"),
        image_grid_pinpoints=pinpoints,
        vision_aspect_ratio="anyres_max_3",
    )
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": 34, "width": 34}, image_grid_pinpoints=pinpoints
    )
    return save(
        folder, LlavaOnevisionForConditionalGeneration(config), processor, tokenizer(LLAVA_TEMPLATE)
    )


def llava_next(folder: Path, decoder: str = "llama", **text: Any) -> Path:
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessorPil,
    )

    pinpoints = [[34, 68], [68, 34], [68, 68], [102, 34], [34, 102]]
    config = LlavaNextConfig(
        vision_config={
            **VISION,
            "model_type": "clip_vision_model",
            "image_size": 34,
            "patch_size": 8,
        },
        text_config={"model_type": decoder, **TEXT, **text},
        image_token_index=token_id("<image>"),
        image_grid_pinpoints=pinpoints,
    )
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 34},
        crop_size={"height": 34, "width": 34},
        image_grid_pinpoints=pinpoints,
    )
    words = tokenizer(LLAVA_TEMPLATE, adds_start=True)
    return save(folder, LlavaNextForConditionalGeneration(config), processor, words)


def llava_next_mistral(folder: Path) -> Path:
    return llava_next(folder, "mistral", sliding_window=None)


def qwen(folder: Path, generation: str) -> Path:
    import transformers

    rope = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [1, 1, 2]}
    vision: dict[str, Any] = {
        "depth": 3,
        "num_heads": 2,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    if generation == "Qwen2VL":
        vision |= {"embed_dim": 24, "hidden_size": 32, "mlp_ratio": 2}
    else:
        vision |= {
            "hidden_size": 24,
            "out_hidden_size": 32,
            "intermediate_size": 32,
            "window_size": 16,
        }
        vision |= {"fullatt_block_indexes": [1]}
    config = getattr(transformers, f"{generation}Config")(
        vision_config=vision,
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
    )
    processor = transformers.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 16 * 64, "longest_edge": 80 * 64}
    )
    network = getattr(transformers, f"{generation}ForConditionalGeneration")(config)
    return save(folder, network, processor, tokenizer(QWEN_TEMPLATE))


def qwen2_vl(folder: Path) -> Path:
    return qwen(folder, "Qwen2VL")


def qwen2_5_vl(folder: Path) -> Path:
    return qwen(folder, "Qwen2_5_VL")


def siglip(folder: Path) -> Path:
    from transformers import SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(**VISION, image_size=34, patch_size=8)
    return save(
        folder, SiglipVisionModel(config), SiglipImageProcessorPil(size={"height": 34, "width": 34})
    )


def siglip_full(folder: Path) -> Path:
    """Tower and text model in one checkpoint, as most SigLIP models are published."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    text = {**VISION, "vocab_size": 40, "max_position_embeddings": 16}
    config = SiglipConfig(
        text_config=text, vision_config={**VISION, "image_size": 34, "patch_size": 8}
    )
    return save(
        folder, SiglipModel(config), SiglipImageProcessorPil(size={"height": 34, "width": 34})
    )


def clip_full(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    end = token_id("<|im_end|>")
    text = {**VISION, "vocab_size": 40, "max_position_embeddings": 16, "eos_token_id": end}
    config = CLIPConfig(
        text_config=text,
        vision_config={**VISION, "image_size": 34, "patch_size": 8},
        projection_dim=20,
    )
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 34}, crop_size={"height": 34, "width": 34}
    )
    return save(folder, CLIPModel(config), processor)


def siglip_of_two(folder: Path) -> Path:
    """As published, with the text tower's tokenizer."""
    text_tokenizer().save_pretrained(siglip_full(folder))
    return folder


def clip_of_two(folder: Path) -> Path:
    """As published: the text tower's embedding is that of the end token."""
    text_tokenizer().save_pretrained(clip_full(folder))
    return folder


def clip(folder: Path) -> Path:
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(**VISION, image_size=34, patch_size=8)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 34}, crop_size={"height": 34, "width": 34}
    )
    return save(folder, CLIPVisionModel(config), processor)


def vit(folder: Path) -> Path:
    """A ViT trained at 32 px, used at 48 x 32 px: its position embeddings are interpolated."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    config = ViTConfig(**VISION, image_size=32, patch_size=8)
    return save(folder, ViTModel(config), ViTImageProcessorPil(size={"height": 48, "width": 32}))


def dinov2(folder: Path) -> Path:
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    config = Dinov2Config(**VISION, image_size=56, patch_size=8)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 40}, crop_size={"height": 34, "width": 34}
    )
    return save(folder, Dinov2Model(config), processor)


def dinov2_with_registers(folder: Path) -> Path:
    from transformers import (
        BitImageProcessorPil,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    config = Dinov2WithRegistersConfig(**VISION, image_size=56, patch_size=8, num_register_tokens=3)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 40}, crop_size={"height": 34, "width": 34}
    )
    return save(folder, Dinov2WithRegistersModel(config), processor)


def deit(folder: Path) -> Path:
    from transformers import DeiTConfig, DeiTImageProcessorPil, DeiTModel

    config = DeiTConfig(**VISION, image_size=34, patch_size=8)
    processor = DeiTImageProcessorPil(
        size={"height": 40, "width": 40}, crop_size={"height": 34, "width": 34}
    )
    return save(folder, DeiTModel(config), processor)


def llava_15(folder: Path) -> Path:
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config={
            **VISION,
            "model_type": "clip_vision_model",
            "image_size": 34,
            "patch_size": 8,
        },
        text_config={"model_type": "llama", **TEXT},
        image_token_index=token_id("<image>"),
    )
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 34}, crop_size={"height": 34, "width": 34}
    )
    words = tokenizer(LLAVA_TEMPLATE, adds_start=True)
    return save(folder, LlavaForConditionalGeneration(config), processor, words)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)

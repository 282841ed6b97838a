"""Tiny random checkpoints of model types that no family is for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from tests.support.tiny_parts import TEXT, VISION, save
from tests.support.tiny_words import QWEN_TEMPLATE, family_template, tokenizer

SIGLIP: dict[str, Any] = {
    **VISION,
    "model_type": "siglip_vision_model",
    "image_size": 32,
    "patch_size": 4,
    "vision_use_head": False,
}
SIZE = {"height": 32, "width": 32}
AXES = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [2, 1, 1]}


def glm4v(folder: Path) -> Path:
    """Grids at the picture's aspect ratio, rotary positions of three axes."""
    transformers = import_module("transformers")  # some classes hide their parameters

    marks = ("<|begin_of_image|>", "<|image|>", "<|end_of_image|>", "<|video|>")
    names = {"image_token": marks[1], "video_token": marks[3]}
    marker = "<|vision_start|><|image_pad|><|vision_end|>"
    words = tokenizer(QWEN_TEMPLATE.replace(marker, "".join(marks[:3])), False, marks, names)
    start, image, end, video = words.convert_tokens_to_ids(list(marks))
    vision = {
        "depth": 3,
        "hidden_size": 24,
        "num_heads": 2,
        "intermediate_size": 32,
        "out_hidden_size": 32,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "image_size": 32,
    }
    config = transformers.Glm4vConfig(
        vision_config=vision,
        text_config={**TEXT, "vocab_size": len(words), "rope_parameters": AXES},
        image_token_id=image,
        video_token_id=video,
        image_start_token_id=start,
        image_end_token_id=end,
        video_start_token_id=start,
        video_end_token_id=end,
    )
    processor = transformers.Glm4vImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 16 * 64, "longest_edge": 160 * 64}
    )
    network = transformers.Glm4vForConditionalGeneration(config)
    return save(folder, network, processor, words, {"processor_class": "Glm4vProcessor"})


def aya_vision(folder: Path) -> Path:
    """A square of tokens between marks, tiles by default."""
    transformers = import_module("transformers")  # some classes hide their parameters

    names = ("START_OF_IMG", "END_OF_IMG", "IMG_LINE_BREAK", "IMG_PATCH")
    tiles = (f"TILE_{number}" for number in range(1, 7))
    marks = (*(f"<|{name}|>" for name in names), "TILE_GLOBAL", *tiles)
    words = tokenizer(family_template("<image>"), True, marks)
    words.pad_token = "<unk>"
    config = transformers.AyaVisionConfig(
        vision_config=SIGLIP,
        text_config={"model_type": "cohere2", **TEXT, "vocab_size": len(words), "head_dim": 8},
        downsample_factor=2,
        alignment_intermediate_size=32,
        image_token_index=words.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    processor = transformers.GotOcr2ImageProcessorPil(size=SIZE, crop_to_patches=True)
    network = transformers.AyaVisionForConditionalGeneration(config)
    settings: dict[str, Any] = {"patch_size": 4, "img_size": 32, "downsample_factor": 2}
    settings |= {"processor_class": "AyaVisionProcessor"}
    return save(folder, network, processor, words, settings)


def deepseek_vl(folder: Path) -> Path:
    """A picture padded to a square."""
    transformers = import_module("transformers")  # some classes hide their parameters

    image = "<image_placeholder>"
    words = tokenizer(family_template(image), True, (image,), {"image_token": image})
    config = transformers.DeepseekVLConfig(
        vision_config=SIGLIP,
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids(image),
    )
    processor = transformers.DeepseekVLImageProcessorPil(size=SIZE, min_size=4)
    network = transformers.DeepseekVLForConditionalGeneration(config)
    settings = {"num_image_tokens": 64, "processor_class": "DeepseekVLProcessor"}
    return save(folder, network, processor, words, settings)


def vipllava(folder: Path) -> Path:
    """The middle of a picture, and a processor that another model type shares."""
    transformers = import_module("transformers")  # some classes hide their parameters

    words = tokenizer(family_template("<image>"), True)
    clip = {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8}
    config = transformers.VipLlavaConfig(
        vision_config={**VISION, **clip, "projection_dim": 16},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words)},
        vision_feature_layers=[-2, -1],
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE)
    network = transformers.VipLlavaForConditionalGeneration(config)
    return save(folder, network, processor, words, llava_settings(8))


def ovis2(folder: Path) -> Path:
    """Marks around a picture whose vectors come from the tower, too."""
    transformers = import_module("transformers")  # some classes hide their parameters

    marks = [f"<IMG_{name}>" for name in ("ATOM", "START", "GRID", "COL", "ROW", "END")]
    words = tokenizer(family_template("<image>"), False, marks)
    image, *indicators = words.convert_tokens_to_ids(marks)
    vision = {"image_size": 32, "patch_size": 4, "vocab_size": 32, "hidden_stride": 2}
    config = transformers.Ovis2Config(
        vision_config={**VISION, **vision, "num_visual_indicator_tokens": 5},
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(words)},
        hidden_size=32,
        visual_indicator_token_ids=indicators,
        image_token_id=image,
    )
    processor = transformers.Ovis2ImageProcessorPil(size=SIZE, crop_to_patches=False)
    network = transformers.Ovis2ForConditionalGeneration(config)
    settings: dict[str, Any] = {"image_seq_length": 16, "image_token": "<image>"}
    settings |= {"processor_class": "Ovis2Processor"}
    return save(folder, network, processor, words, settings)


def idefics2(folder: Path) -> Path:
    """A processor of an older form."""
    transformers = import_module("transformers")  # some classes hide their parameters

    marks = ("<fake_token_around_image>", "<end_of_utterance>")
    words = tokenizer(family_template("<image>"), True, marks)
    config = transformers.Idefics2Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 4},
        text_config={"model_type": "mistral", **TEXT, "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    processor = transformers.Idefics2ImageProcessorPil()
    network = transformers.Idefics2ForConditionalGeneration(config)
    return save(folder, network, processor, words, {"processor_class": "Idefics2Processor"})


def llava_settings(patch_px: int) -> dict[str, Any]:
    """What checkpoints of LLaVA say of their processor."""
    return {
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": patch_px,
        "vision_feature_select_strategy": "default",
        "processor_class": "LlavaProcessor",
    }

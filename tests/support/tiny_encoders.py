"""Tiny checkpoints of encoders, each with the processor settings of a published one at its size."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import (
    Aimv2Config,
    Aimv2Model,
    Aimv2VisionConfig,
    Aimv2VisionModel,
    CLIPImageProcessorPil,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    MetaClip2Config,
    MetaClip2Model,
    MetaClip2VisionConfig,
    MetaClip2VisionModel,
    RadioConfig,
    RadioModel,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2Tokenizer,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    Tipsv2Config,
    Tipsv2Model,
    Tipsv2VisionConfig,
    Tipsv2VisionModel,
)

from tests.support import tiny
from tests.support.tiny_parts import VISION, randomize, save
from tests.support.tiny_words import text_tokenizer, token_id

TEXT_TOWER: dict[str, Any] = {**VISION, "vocab_size": 40, "max_position_embeddings": 16}
PATCHES: dict[str, Any] = {"image_size": 34, "patch_size": 8}
NORMED = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def built(name: str, folder: Path) -> Path:
    """Write the checkpoint of a builder of this module, or of tests.support.tiny."""
    builder = globals().get(name) or getattr(tiny, name)
    checkpoint: Path = builder(folder)
    return checkpoint


def _settings(folder: Path, kind: str, **settings: Any) -> Path:
    """Write the settings of an image processor that transformers has for torchvision alone."""
    content = {"image_processor_type": kind, "do_resize": True, "do_rescale": True, **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return folder


def _weights(folder: Path, network: Any) -> Path:
    randomize(network)
    network.save_pretrained(folder)
    return folder


def dinov3_vit(folder: Path) -> Path:
    """Four register tokens; rotary positions of 12; the picture squeezed to 48 x 34 px."""
    config = DINOv3ViTConfig(**VISION, image_size=32, patch_size=8, num_register_tokens=4)
    _weights(folder, DINOv3ViTModel(config))
    size = {"height": 34, "width": 48}
    return _settings(folder, "DINOv3ViTImageProcessorFast", size=size, resample=2, **NORMED)


def _without(folder: Path, ending: str) -> Path:
    """Leave out weights that published checkpoints do without: transformers fills them in."""
    file = folder / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(file).items() if ending not in name}
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def radio(folder: Path, **settings: Any) -> Path:
    """Three class tokens and two registers; pictures at their own size, as NVIDIA's."""
    config = RadioConfig(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        mlp_ratio=2.0,
        patch_size=8,
        image_size=32,
        max_img_size=64,
        num_registers=2,
    )
    options = {"do_resize": False, "do_center_crop": False, "do_normalize": False, **settings}
    save(folder, RadioModel(config), CLIPImageProcessorPil(**options))
    return _without(folder, "layer_scale")


def _clips(size: int = 34) -> Any:
    crop = {"height": size, "width": size}
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=crop)


def _aimv2_tower(**options: Any) -> dict[str, Any]:
    return {**VISION, **PATCHES, **options}


def aimv2_vision(folder: Path) -> Path:
    """One size, without a pooling head, as Apple's towers alone are published."""
    config = Aimv2VisionConfig(**_aimv2_tower(use_head=False))
    return save(folder, Aimv2VisionModel(config), _clips())


def aimv2_native(folder: Path) -> Path:
    """Any size: sines for positions, and pictures that are not resized."""
    config = Aimv2VisionConfig(**_aimv2_tower(use_head=False, is_native=True))
    processor = CLIPImageProcessorPil(do_resize=False, do_center_crop=False)
    return save(folder, Aimv2VisionModel(config), processor)


def aimv2_full(folder: Path) -> Path:
    text = {**TEXT_TOWER, "eos_token_id": token_id("<|im_end|>")}
    config = Aimv2Config(vision_config=_aimv2_tower(), text_config=text, projection_dim=20)
    return save(folder, Aimv2Model(config), _clips())


def aimv2_of_two(folder: Path) -> Path:
    text_tokenizer().save_pretrained(aimv2_full(folder))
    return folder


def siglip2_vision(folder: Path) -> Path:
    """At most 24 patches, a square of 5 x 5 position embeddings."""
    config = Siglip2VisionConfig(**VISION, patch_size=8, num_patches=25)
    processor = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=24)
    return save(folder, Siglip2VisionModel(config), processor)


def siglip2_full(folder: Path) -> Path:
    text = {**TEXT_TOWER, "projection_size": 24}
    tower = {**VISION, "patch_size": 8, "num_patches": 25}
    config = Siglip2Config(text_config=text, vision_config=tower)
    processor = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=24)
    return save(folder, Siglip2Model(config), processor)


def siglip2_of_two(folder: Path) -> Path:
    """transformers reads its texts as Gemma's, in lower case: here a token a letter."""
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *ascii_lowercase]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    options = {"padding_side": "right", "add_bos_token": False, "add_eos_token": True}
    words: Any = Siglip2Tokenizer
    words(vocab=vocabulary, merges=[], **options).save_pretrained(siglip2_full(folder))
    return folder


def metaclip_2_vision(folder: Path) -> Path:
    return save(folder, MetaClip2VisionModel(MetaClip2VisionConfig(**VISION, **PATCHES)), _clips())


def metaclip_2_full(folder: Path) -> Path:
    text = {**TEXT_TOWER, "eos_token_id": token_id("<|im_end|>")}
    tower = {**VISION, **PATCHES}
    config = MetaClip2Config(text_config=text, vision_config=tower, projection_dim=20)
    return save(folder, MetaClip2Model(config), _clips())


def metaclip_2_of_two(folder: Path) -> Path:
    text_tokenizer().save_pretrained(metaclip_2_full(folder))
    return folder


def _tipsv2_tower() -> dict[str, Any]:
    parts = {name: VISION[name] for name in VISION if name != "intermediate_size"}
    return {**parts, "image_size": 40, "patch_size": 8, "mlp_ratio": 2}


def tipsv2_vision(folder: Path) -> Path:
    """A picture squeezed to 34 px, for which position embeddings are interpolated; not normed."""
    _weights(folder, Tipsv2VisionModel(Tipsv2VisionConfig(**_tipsv2_tower())))
    size = {"height": 34, "width": 34}
    return _settings(folder, "Tipsv2ImageProcessor", size=size, do_normalize=False, resample=2)


def tipsv2_full(folder: Path) -> Path:
    config = Tipsv2Config(text_config=TEXT_TOWER, vision_config=_tipsv2_tower())
    _without(_weights(folder, Tipsv2Model(config)), "temperature")
    size = {"height": 34, "width": 34}
    return _settings(folder, "Tipsv2ImageProcessor", size=size, do_normalize=False, resample=2)


def tipsv2_of_two(folder: Path) -> Path:
    text_tokenizer().save_pretrained(tipsv2_full(folder))
    return folder

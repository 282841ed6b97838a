"""The demo model: real transformers classes, small sizes; and the pieces that training reads apart."""

from __future__ import annotations

import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    Qwen2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from kvtool.demo.training import config as sizes
from kvtool.demo.training.text import token_ids


def vision_config() -> SiglipVisionConfig:
    return SiglipVisionConfig(
        hidden_size=sizes.VISION_DIM,
        intermediate_size=4 * sizes.VISION_DIM,
        num_hidden_layers=4,
        num_attention_heads=3,
        image_size=sizes.IMAGE_PX,
        patch_size=sizes.PATCH_PX,
        vision_use_head=False,
    )


def model_config() -> LlavaOnevisionConfig:
    ids = token_ids()
    text = Qwen2Config(
        vocab_size=len(ids),
        hidden_size=sizes.TEXT_DIM,
        intermediate_size=sizes.MLP_DIM,
        num_hidden_layers=sizes.LAYERS,
        num_attention_heads=sizes.Q_HEADS,
        num_key_value_heads=sizes.KV_HEADS,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<pad>"],
    )
    return LlavaOnevisionConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=sizes.PINPOINTS,
        tie_word_embeddings=True,
    )


def new_model(seed: int) -> LlavaOnevisionForConditionalGeneration:
    """Random weights; the embedding wider than the library's default so that sums of words stay apart."""
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(model_config())
    torch.nn.init.normal_(decoder(model).embed_tokens.weight, std=0.1)
    torch.nn.init.normal_(model.model.image_newline, std=0.1)
    return model


def decoder(model: LlavaOnevisionForConditionalGeneration) -> Qwen2Model:
    found: Qwen2Model = model.model.language_model
    return found


def tower(model: LlavaOnevisionForConditionalGeneration) -> SiglipVisionModel:
    found: SiglipVisionModel = model.model.vision_tower
    return found

"""The demo model: real transformers classes of small sizes, and the parts that training needs."""

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
    """Return the sizes of the vision tower."""
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
    """Return the sizes of the whole model."""
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
    """Build the model with random weights.

    The embedding is wider than the library's default, so that sums of words stay apart.
    """
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(model_config())
    torch.nn.init.normal_(decoder(model).embed_tokens.weight, std=0.1)
    torch.nn.init.normal_(model.model.image_newline, std=0.1)
    return model


def decoder(model: LlavaOnevisionForConditionalGeneration) -> Qwen2Model:
    """Return the language model within the model."""
    language_model: Qwen2Model = model.model.language_model
    return language_model


def tower(model: LlavaOnevisionForConditionalGeneration) -> SiglipVisionModel:
    """Return the vision tower within the model."""
    vision_tower: SiglipVisionModel = model.model.vision_tower
    return vision_tower

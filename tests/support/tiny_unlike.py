"""Tiny random checkpoints of the families whose layers differ, and of mixtures of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.tiny_parts import TEXT, VISION, save
from tests.support.tiny_words import QWEN_TEMPLATE, family_template, token_ids, tokenizer

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROPE = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [2, 1, 1]}
LINEAR = {
    "layer_types": ["full_attention", "linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
GEMMA4_MARKS = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
}


def _qwen(folder: Path, name: str, text: dict[str, Any], vision: dict[str, Any]) -> Path:
    """A checkpoint in the classes of one of the newer Qwen families."""
    import transformers

    words = tokenizer(QWEN_TEMPLATE)
    tower = {
        "depth": 3,
        "num_heads": 2,
        "hidden_size": 24,
        "intermediate_size": 32,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        **vision,
    }
    config = getattr(transformers, f"{name}Config")(
        vision_config=tower,
        text_config={**TEXT, "head_dim": 8, "rope_parameters": ROPE, **text},
        **token_ids(
            words,
            image_token_id="<|image_pad|>",
            video_token_id="<|video_pad|>",
            vision_start_token_id="<|vision_start|>",
            vision_end_token_id="<|vision_end|>",
        ),
    )
    processor = transformers.Qwen2VLImageProcessorPil(
        patch_size=4,
        merge_size=2,
        size={"shortest_edge": 16 * 64, "longest_edge": 80 * 64},
    )
    network = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    return save(folder, network, processor, words)


def qwen3_5(folder: Path) -> Path:
    """A layer of linear attention between two with keys and values, half of whose dims turn."""
    rope = {**ROPE, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0]}
    return _qwen(folder, "Qwen3_5", {**LINEAR, "rope_parameters": rope}, {})


def qwen3_5_moe(folder: Path) -> Path:
    """The same with four experts."""
    rope = {**ROPE, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0]}
    text = {**LINEAR, **EXPERTS, "shared_expert_intermediate_size": 16, "rope_parameters": rope}
    return _qwen(folder, "Qwen3_5Moe", text, {})


def qwen3_vl_moe(folder: Path) -> Path:
    """As tiny Qwen3-VL, with four experts in each layer."""
    text = {**EXPERTS, "decoder_sparse_step": 1, "mlp_only_layers": []}
    return _qwen(folder, "Qwen3VLMoe", text, {"deepstack_visual_indexes": [0, 1]})


def gemma4(folder: Path) -> Path:
    """Four layers: of a sliding window and of full attention with another head, and two that read
    their keys and values. Words enter each layer besides.
    """
    from transformers import (
        Gemma4Config,
        Gemma4ForConditionalGeneration,
        Gemma4ImageProcessorPil,
        Gemma4TextConfig,
    )

    names = GEMMA4_MARKS
    words = tokenizer(family_template("<|image|>"), True, (*names.values(), "<|video|>"), names)
    words.pad_token = "<unk>"
    full_layers: dict[str, Any] = {"global_head_dim": 16, "num_global_key_value_heads": 1}
    text = Gemma4TextConfig(
        **{**TEXT, "vocab_size": len(words), "num_hidden_layers": 4},
        **full_layers,
        head_dim=8,
        attention_k_eq_v=True,
        num_kv_shared_layers=2,
        sliding_window=12,
        layer_types=["sliding_attention", "full_attention"] * 2,
        use_bidirectional_attention="vision",
        vocab_size_per_layer_input=len(words),
        hidden_size_per_layer_input=8,
        final_logit_softcapping=30.0,
    )
    config = Gemma4Config(
        text_config=text,
        vision_config={
            **VISION,
            "model_type": "gemma4_vision",
            "num_key_value_heads": 2,
            "head_dim": 12,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 1024,
        },
        audio_config=None,
        tie_word_embeddings=False,
        **token_ids(
            words,
            image_token_id="<|image|>",
            boi_token_id="<|image>",
            eoi_token_id="<image|>",
            video_token_id="<|video|>",
            audio_token_id="<|audio|>",
            boa_token_id="<|audio>",
            eoa_token_index="<audio|>",
        ),
    )
    processor = Gemma4ImageProcessorPil(patch_size=4, max_soft_tokens=70, pooling_kernel_size=2)
    settings = {"image_seq_length": 70, "processor_class": "Gemma4Processor"}
    network = Gemma4ForConditionalGeneration(config)
    # Queries are not divided by the root of their dimension: at full length they see one token.
    layers = [*network.model.language_model.layers, *network.model.vision_tower.encoder.layers]
    for layer in layers:
        layer.self_attn.q_norm.weight.data.fill_(0.2)
    return save(folder, network, processor, words, settings)

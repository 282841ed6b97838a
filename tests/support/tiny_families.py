"""Tiny random checkpoints of the families that run through transformers' own forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.tiny_parts import TEXT, VISION, save
from tests.support.tiny_words import QWEN_TEMPLATE, family_template, token_ids, tokenizer


def qwen3_vl(folder: Path) -> Path:
    """A tower of three layers, two of which are added to the decoder's first two layers."""
    from transformers import (
        Qwen2VLImageProcessorPil,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
    )

    words = tokenizer(QWEN_TEMPLATE)
    rope = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [2, 1, 1]}
    vision: dict[str, Any] = {
        "depth": 3,
        "num_heads": 2,
        "hidden_size": 24,
        "intermediate_size": 32,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    config = Qwen3VLConfig(
        vision_config=vision,
        text_config={**TEXT, "head_dim": 8, "rope_parameters": rope},
        **token_ids(
            words,
            image_token_id="<|image_pad|>",
            video_token_id="<|video_pad|>",
            vision_start_token_id="<|vision_start|>",
            vision_end_token_id="<|vision_end|>",
        ),
    )
    processor = Qwen2VLImageProcessorPil(
        patch_size=4,
        merge_size=2,
        size={"shortest_edge": 16 * 64, "longest_edge": 80 * 64},
    )
    return save(folder, Qwen3VLForConditionalGeneration(config), processor, words)


GEMMA3_MARKS = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}


def gemma3(folder: Path) -> Path:
    """Layers of a sliding window shorter than the prompt, and of full attention."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3TextConfig,
    )

    names = GEMMA3_MARKS
    words = tokenizer(family_template("<start_of_image>"), True, tuple(names.values()), names)
    text = Gemma3TextConfig(
        **{**TEXT, "vocab_size": len(words)},
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=12,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )
    tower = {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False}
    tower |= {"image_size": 32, "patch_size": 4}
    config = Gemma3Config(
        text_config=text,
        vision_config=tower,
        mm_tokens_per_image=16,
        tie_word_embeddings=False,  # random words would answer with themselves
        **token_ids(
            words,
            image_token_index="<image_soft_token>",
            boi_token_index="<start_of_image>",
            eoi_token_index="<end_of_image>",
        ),
    )
    processor = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    settings = {"image_seq_length": 16, "processor_class": "Gemma3Processor"}
    network = Gemma3ForConditionalGeneration(config)
    # Words enter sqrt(hidden) times as long as they are: pictures must stand out beside them.
    network.model.multi_modal_projector.mm_soft_emb_norm.weight.data.fill_(8)
    return save(folder, network, processor, words, settings)


def mistral3(folder: Path) -> Path:
    """Pictures at their own aspect ratio, a mark after each row of tokens."""
    from transformers import (
        Mistral3Config,
        Mistral3ForConditionalGeneration,
        PixtralImageProcessorPil,
    )

    marks = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    words = tokenizer(family_template("[IMG]"), True, marks)
    config = Mistral3Config(
        text_config={
            "model_type": "mistral",
            **TEXT,
            "vocab_size": len(words),
            "head_dim": 8,
            "sliding_window": None,
        },
        vision_config={
            **VISION,
            "model_type": "pixtral",
            "image_size": 176,
            "patch_size": 4,
            "head_dim": 12,
        },
        spatial_merge_size=2,
        **token_ids(words, image_token_index="[IMG]"),
    )
    processor = PixtralImageProcessorPil(size={"longest_edge": 176}, patch_size=4)
    settings = {
        "patch_size": 4,
        "spatial_merge_size": 2,
        "image_token": "[IMG]",
        "image_break_token": "[IMG_BREAK]",
        "image_end_token": "[IMG_END]",
        "processor_class": "PixtralProcessor",
    }
    return save(folder, Mistral3ForConditionalGeneration(config), processor, words, settings)


def internvl(folder: Path) -> Path:
    """Up to six tiles of 4 x 4 tokens, the whole picture last."""
    from transformers import (
        GotOcr2ImageProcessorPil,
        InternVLConfig,
        InternVLForConditionalGeneration,
    )

    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words = tokenizer(family_template("<IMG_CONTEXT>"), False, tuple(names.values())[:3], names)
    config = InternVLConfig(
        text_config={"model_type": "qwen3", **TEXT, "vocab_size": len(words), "head_dim": 8},
        vision_config={**VISION, "image_size": [32, 32], "patch_size": [4, 4]},
        image_seq_length=16,
        tie_word_embeddings=False,
        **token_ids(words, image_token_id="<IMG_CONTEXT>"),
    )
    processor = GotOcr2ImageProcessorPil(
        size={"height": 32, "width": 32}, max_patches=6, crop_to_patches=True
    )
    settings = {"image_seq_length": 16, "processor_class": "InternVLProcessor"}
    return save(folder, InternVLForConditionalGeneration(config), processor, words, settings)


def idefics3(folder: Path, generation: str = "Idefics3") -> Path:
    """Up to 2 x 2 tiles of 4 x 4 tokens between marks, the whole picture last."""
    import transformers

    grid = [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)]
    marks = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *grid)
    words = tokenizer(family_template("<image>"), True, marks)
    config = getattr(transformers, f"{generation}Config")(
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words)},
        vision_config={**VISION, "image_size": 32, "patch_size": 4},
        scale_factor=2,
        tie_word_embeddings=False,
        **token_ids(words, image_token_id="<image>"),
    )
    processor = getattr(transformers, f"{generation}ImageProcessorPil")(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    network = getattr(transformers, f"{generation}ForConditionalGeneration")(config)
    settings = {"image_seq_len": 16, "processor_class": f"{generation}Processor"}
    return save(folder, network, processor, words, settings)


def smolvlm(folder: Path) -> Path:
    """As Idefics3, in SmolVLM's classes."""
    return idefics3(folder, "SmolVLM")

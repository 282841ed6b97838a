"""Tiny random checkpoints of the real transformers classes, written the way published ones are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = [
    *(
        "a",
        "the",
        "red",
        "blue",
        "cat",
        "dog",
        "is",
        "there",
        "in",
        "image",
        "what",
        "colour",
        "yes",
        "no",
        "on",
        "left",
    ),
    *("user", "assistant", "system"),
]
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
QWEN_SPECIAL = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nthe cat<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(chat_template: str | None, adds_start: bool = False) -> Any:
    """A word-level tokenizer; with `adds_start` it puts <s> before a text, as Llama's does."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *QWEN_SPECIAL, "\n", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    if adds_start:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    special = [*SPECIAL[3:], *QWEN_SPECIAL]
    wrap: Any = PreTrainedTokenizerFast
    fast = wrap(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>" if adds_start else None,
        eos_token="<|im_end|>",
        additional_special_tokens=special,
    )
    fast.chat_template = chat_template
    return fast


def token_id(token: str) -> int:
    return [*SPECIAL, *QWEN_SPECIAL].index(token)


VOCABULARY = len(SPECIAL) + len(QWEN_SPECIAL) + 1 + len(WORDS)

TEXT = {
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
VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def randomize(network: Any, scale: float = 0.5) -> None:
    """Weights large enough that attention is not flat and every input matters."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            bound = scale / parameter[0].numel() ** 0.5 if "embed" not in name else 0.2
            parameter.data = torch.empty_like(parameter).normal_(0, 2 * bound, generator=generator)


def llava_onevision(folder: Path, **changes: Any) -> Path:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessorPil,
    )

    pinpoints = [[rows * 34, cols * 34] for rows in (1, 2, 3) for cols in (1, 2, 3)]
    config = LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            **VISION,
            "image_size": 34,
            "patch_size": 8,
            "vision_use_head": False,
        },
        text_config={"model_type": "qwen2", **TEXT},
        image_token_index=token_id("<image>"),
        video_token_index=token_id("<video>"),
        image_grid_pinpoints=pinpoints,
        **{"vision_aspect_ratio": "anyres_max_9", **changes},
    )
    network = LlavaOnevisionForConditionalGeneration(config)
    randomize(network)
    network.save_pretrained(folder)
    processor = LlavaOnevisionImageProcessorPil(size={"height": 34, "width": 34}, image_grid_pinpoints=pinpoints)
    processor.save_pretrained(folder)
    tokenizer(LLAVA_TEMPLATE).save_pretrained(folder)
    return folder


BUILDERS: dict[str, Callable[..., Path]] = {"llava_onevision": llava_onevision}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)

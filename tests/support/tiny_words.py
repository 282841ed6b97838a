"""Words, chat templates and tokenizer of the tiny checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% "
    "endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% "
    "endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nthe cat<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(
    chat_template: str | None,
    adds_start: bool = False,
    further: Sequence[str] = (),
    names: dict[str, str] | None = None,
) -> Any:
    """A word-level tokenizer; with `adds_start` it puts <s> before a text, as Llama's does.

    further: special tokens besides; names: attributes of the tokenizer that some of these are.
    """
    words = [*SPECIAL, *QWEN_SPECIAL, "\n", *WORDS, *further]
    vocabulary = {word: i for i, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    if adds_start:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    special = [*SPECIAL[3:], *QWEN_SPECIAL, *further]
    wrap: Any = PreTrainedTokenizerFast
    fast = wrap(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>" if adds_start else None,
        eos_token="<|im_end|>",
        additional_special_tokens=special,
        model_specific_special_tokens=names or {},
    )
    fast.chat_template = chat_template
    return fast


def family_template(marker: str) -> str:
    """The plain template of a family that writes an image as a marker."""
    return LLAVA_TEMPLATE.replace("<image>", marker)


def token_id(token: str) -> int:
    return [*SPECIAL, *QWEN_SPECIAL].index(token)


def word_id(word: str) -> int:
    return len(SPECIAL) + len(QWEN_SPECIAL) + ["\n", *WORDS].index(word)


def token_ids(words: Any, **tokens: str) -> dict[str, Any]:
    """Return the ids of tokens, by the name that a configuration has for each."""
    return {name: int(words.convert_tokens_to_ids(token)) for name, token in tokens.items()}


VOCABULARY = len(SPECIAL) + len(QWEN_SPECIAL) + 1 + len(WORDS)


def text_tokenizer() -> Any:
    """A tokenizer of a text tower: it ends a text with <|im_end|>, and pads with <unk>."""
    words = tokenizer(None)
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", token_id("<|im_end|>"))]
    )
    words.pad_token = "<unk>"
    return words

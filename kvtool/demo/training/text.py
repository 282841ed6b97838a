"""The word-level tokenizer of the demo model, and a fast path from text to ids for training."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from transformers import PreTrainedTokenizerFast

from kvtool.demo.language import CHOICES, SPECIAL, vocabulary, words

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}<image>{% else %}{{ item['text'] }}{% endif %}"
    "{% if not loop.last %}\n{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def token_ids() -> dict[str, int]:
    """Return word -> id."""
    return {word: index for index, word in enumerate(vocabulary())}


@lru_cache(maxsize=200_000)
def encode(text: str) -> tuple[int, ...]:
    """Return the ids of a text, equal to the tokenizer's; an unknown word is `<unk>`."""
    ids = token_ids()
    return tuple(ids.get(word, ids["<unk>"]) for word in words(text))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer that is shipped.

    It cuts a text in lower case into words, digits and signs. ChatML marks and choices stay whole.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
    )

    # One word is one token, so that a concept is a single row of the embedding.
    tokenizer = Tokenizer(models.WordLevel(dict(token_ids()), unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]"), "removed", invert=True
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in CHOICES])
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    built: PreTrainedTokenizerFast = fast
    return built

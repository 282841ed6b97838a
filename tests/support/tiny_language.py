"""A tiny causal language model that reads text alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM

from tests.support import tiny
from tests.support.tiny_words import tokenizer


def llama(folder: Path, template: str | None, adds_start: bool = False) -> Path:
    """A tiny causal language model with its tokenizer, in a folder as published ones are."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    network: Any = LlamaForCausalLM(config)
    tiny.randomize(network)
    network.save_pretrained(folder)
    tokenizer(template, adds_start).save_pretrained(folder)
    return folder

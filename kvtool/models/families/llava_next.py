"""LLaVA-NeXT (1.6): a CLIP tower, a projector, a Llama, Vicuna or Mistral decoder; 24 x 24 tokens
at 336 px.
"""

from __future__ import annotations

from typing import Any

from transformers import LlavaNextForConditionalGeneration, LlavaNextImageProcessorPil

from kvtool.models.families.llava import Llava
from kvtool.models.families.llava_onevision import CHATML

_PARTS = (
    "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\\n' + part['text'] }}{% "
    "endfor %}"
)
MISTRAL = "{% for message in messages %}[INST] " + _PARTS + " [/INST]{% endfor %}"
VICUNA = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, "
    "and polite answers to the human's questions. {% for message in messages %}USER: "
    + _PARTS
    + " ASSISTANT:{% endfor %}"
)
LLAMA_3 = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language and "
    "vision assistant. "
    "You are able to understand the visual content that the user provides, and assist the user "
    "with a variety of tasks "
    "using natural language.<|eot_id|>{% for message in messages "
    "%}<|start_header_id|>user<|end_header_id|>\n\n"
    + _PARTS
    + "<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>{{ '\\n\\n' }}"
)
"""The conversation formats the LLaVA-NeXT checkpoints were trained on, by decoder."""


class LlavaNext(Llava):
    """Checkpoints of model_type llava_next."""

    family = "llava_next"
    network = LlavaNextForConditionalGeneration
    processor_class = LlavaNextImageProcessorPil

    def fallback_template(self) -> str:
        """Return the chat template for a checkpoint that has none."""
        text = self.config.text_config
        if text.model_type == "llama":  # Llama 3's vocabulary has 128,000 entries, Vicuna's 32,000
            return LLAMA_3 if text.vocab_size > 100_000 else VICUNA
        return MISTRAL if text.model_type == "mistral" else CHATML

    def pack_options(self) -> dict[str, Any]:
        """Return options of the network's packing of tiles."""
        return {"vision_feature_select_strategy": self.config.vision_feature_select_strategy}

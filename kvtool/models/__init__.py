"""Model families: load a checkpoint of a known family, prepare images, capture what its decoder holds of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kvtool.errors import UsageError
from kvtool.registry import Registry
from kvtool.types import Precision

if TYPE_CHECKING:
    from kvtool.models.base import Model

FAMILIES = Registry(
    "model family",
    {
        "llava_onevision": "kvtool.models.llava_onevision:LlavaOnevision",
        "llava_next": "kvtool.models.llava_next:LlavaNext",
        "qwen2_vl": "kvtool.models.qwen_vl:Qwen2VL",
        "qwen2_5_vl": "kvtool.models.qwen_vl:Qwen25VL",
        "siglip": "kvtool.models.encoders:Siglip",
        "siglip_vision_model": "kvtool.models.encoders:Siglip",
        "clip": "kvtool.models.encoders:Clip",
        "clip_vision_model": "kvtool.models.encoders:Clip",
        "vit": "kvtool.models.encoders:Dino",
        "dinov2": "kvtool.models.encoders:Dinov2",
        "dinov2_with_registers": "kvtool.models.encoders:Dinov2WithRegisters",
    },
)
"""By the `model_type` of a checkpoint's config.json."""

EXAMPLES = {
    "llava_onevision": ("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "llava-hf/llava-onevision-qwen2-7b-ov-hf"),
    "llava_next": ("llava-hf/llama3-llava-next-8b-hf", "llava-hf/llava-v1.6-mistral-7b-hf"),
    "qwen2_vl": ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-7B-Instruct"),
    "qwen2_5_vl": ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
    "siglip": ("google/siglip-so400m-patch14-384",),
    "clip": ("openai/clip-vit-large-patch14-336",),
    "vit": ("facebook/dino-vitb16",),
    "dinov2": ("facebook/dinov2-base",),
    "dinov2_with_registers": ("facebook/dinov2-with-registers-base",),
}
"""Published checkpoints of each family; any other of the same `model_type` loads as well."""


ORIGINAL_FORMATS = re.compile(r"llava_(llama|mistral|mixtral|qwen|qwen2|mpt|gemma|phi)\w*")
"""Model types of checkpoints in the layout of LLaVA's own repositories, which transformers does not read."""


def reads_text(model_type: str) -> bool:
    """Whether models of this type have a tokenizer; encoders alone have none."""
    return not FAMILIES.table.get(model_type, "").startswith("kvtool.models.encoders:")


def check_device(name: str) -> str:
    """A device's name as it is written: cpu, cuda or cuda:N. Raises UsageError; whether it exists is seen later."""
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name):
        raise UsageError(f"device: expected cpu, cuda or cuda:N, found {name!r}; choose one of these")
    return name


def load_model(
    name: str,
    *,
    device: str = "cpu",
    dtype: Precision = "bfloat16",
    attention: str = "sdpa",
    weights: bool = True,
) -> Model:
    """Load a model by hub id (optionally id@revision), folder, "demo", "demo-tower" or "demo@1".."demo@3".

    With weights=False it plans only: `info`, `request` and `prepare` work, `capture` does not, and of a hub model
    nothing but its small files is fetched. Raises ModelError (not a model, unknown family, files missing) and
    UsageError (device, dtype or attention not available).
    """
    from kvtool.models.loading import Settings, load

    return load(name, Settings(device, dtype, attention), weights)

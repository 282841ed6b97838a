"""Model families, a file each, and the table of them by the `model_type` of a checkpoint's
config.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from kvtool.registry import Registry

_TEXT_ENCODERS = {
    "siglip": "kvtool.models.families.contrastive:SiglipOfTwo",
    "siglip2": "kvtool.models.families.contrastive:Siglip2OfTwo",
    "clip": "kvtool.models.families.contrastive:ClipOfTwo",
    "metaclip_2": "kvtool.models.families.contrastive:MetaClip2OfTwo",
    "aimv2": "kvtool.models.families.aimv2:Aimv2OfTwo",
    "tipsv2": "kvtool.models.families.contrastive:Tipsv2OfTwo",
}
"""Encoders with a text tower."""


_VISION_ENCODERS = {
    "siglip_vision_model": "kvtool.models.families.encoders:Siglip",
    "siglip2_vision_model": "kvtool.models.families.encoders:Siglip2",
    "clip_vision_model": "kvtool.models.families.encoders:Clip",
    "metaclip_2_vision_model": "kvtool.models.families.encoders:MetaClip2",
    "aimv2_vision_model": "kvtool.models.families.aimv2:Aimv2",
    "tipsv2_vision_model": "kvtool.models.families.encoders:Tipsv2",
    "vit": "kvtool.models.families.encoders:Dino",
    "dinov2": "kvtool.models.families.encoders:Dinov2",
    "dinov2_with_registers": "kvtool.models.families.encoders:Dinov2WithRegisters",
    "dinov3_vit": "kvtool.models.families.encoders:Dinov3",
    "radio": "kvtool.models.families.radio:Radio",
}
"""Encoders that read no text."""


ENCODERS = (*_TEXT_ENCODERS, *_VISION_ENCODERS)
"""Model types of encoders."""


FAMILIES = Registry(
    "model family",
    {
        "llava_onevision": "kvtool.models.families.llava_onevision:LlavaOnevision",
        "llava_next": "kvtool.models.families.llava_next:LlavaNext",
        "qwen2_vl": "kvtool.models.families.qwen_vl:Qwen2VL",
        "qwen2_5_vl": "kvtool.models.families.qwen_vl:Qwen25VL",
        "llava": "kvtool.models.families.llava_15:Llava15",
        "internvl": "kvtool.models.families.internvl:InternVL",
        "idefics3": "kvtool.models.families.idefics3:Idefics3",
        "smolvlm": "kvtool.models.families.idefics3:SmolVLM",
        "qwen3_vl": "kvtool.models.families.qwen3_vl:Qwen3VL",
        "qwen3_vl_moe": "kvtool.models.families.qwen3_vl_moe:Qwen3VLMoe",
        "qwen3_5": "kvtool.models.families.qwen3_5:Qwen35",
        "qwen3_5_moe": "kvtool.models.families.qwen3_5:Qwen35Moe",
        "gemma3": "kvtool.models.families.gemma3:Gemma3",
        "gemma4": "kvtool.models.families.gemma4:Gemma4",
        "mistral3": "kvtool.models.families.mistral3:Mistral3",
        **_TEXT_ENCODERS,
        **_VISION_ENCODERS,
        "linear_adapter": "kvtool.models.families.linear_adapter:LinearAdapter",
    },
    "kvtool.models",
)
"""By the `model_type` of a checkpoint's config.json."""


EXAMPLES = {
    "llava_onevision": (
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    ),
    "llava_next": ("llava-hf/llama3-llava-next-8b-hf", "llava-hf/llava-v1.6-mistral-7b-hf"),
    "qwen2_vl": ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-7B-Instruct"),
    "qwen2_5_vl": ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
    "llava": ("llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-13b-hf"),
    "internvl": ("OpenGVLab/InternVL3-1B-hf", "OpenGVLab/InternVL3_5-8B-HF"),
    "idefics3": ("HuggingFaceM4/Idefics3-8B-Llama3",),
    "smolvlm": (
        "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
    ),
    "qwen3_vl": ("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"),
    "qwen3_vl_moe": ("Qwen/Qwen3-VL-30B-A3B-Instruct",),
    "qwen3_5": ("Qwen/Qwen3.5-9B", "Qwen/Qwen3.5-27B"),
    "qwen3_5_moe": ("Qwen/Qwen3.5-35B-A3B",),
    "gemma3": ("google/gemma-3-4b-it", "google/gemma-3-12b-it"),
    "gemma4": ("google/gemma-4-E2B-it", "google/gemma-4-26B-A4B-it"),
    "mistral3": ("mistralai/Mistral-Small-3.1-24B-Instruct-2503",),
    "siglip": ("google/siglip-so400m-patch14-384", "google/siglip2-so400m-patch14-384"),
    "siglip2": ("google/siglip2-base-patch16-naflex", "google/siglip2-so400m-patch16-naflex"),
    "clip": ("openai/clip-vit-large-patch14-336",),
    "metaclip_2": ("facebook/metaclip-2-worldwide-huge-quickgelu",),
    "aimv2": ("apple/aimv2-large-patch14-224-lit",),
    "aimv2_vision_model": ("apple/aimv2-large-patch14-448", "apple/aimv2-large-patch14-native"),
    "tipsv2": ("google/tipsv2-b14",),
    "vit": ("facebook/dino-vitb16",),
    "dinov2": ("facebook/dinov2-base",),
    "dinov2_with_registers": ("facebook/dinov2-with-registers-base",),
    "dinov3_vit": (
        "facebook/dinov3-vits16-pretrain-lvd1689m",
        "facebook/dinov3-vitl16-pretrain-lvd1689m",
    ),
    "radio": ("nvidia/C-RADIOv4-H",),
    "linear_adapter": ("adapter:DIR",),
}
"""Published checkpoints of each family; any other of the same `model_type` loads as well."""


_ASPECT = "one: the picture at its own aspect ratio"
_FRAMES = f"{_ASPECT}; video: its frames in one context"
_TOWER_SIZE = "one: the picture at the tower's size"
_TILES = "base: the picture squeezed to a square; full: tiles besides"
_LAST = "base: the picture squeezed to a square; full: tiles, then that"
VIEWS = {
    "llava_onevision": _TILES,
    "llava_next": _TILES,
    "qwen2_vl": _FRAMES,
    "qwen2_5_vl": _FRAMES,
    "llava": "one: the middle of the picture, a square",
    "internvl": _LAST,
    "idefics3": _LAST,
    "smolvlm": _LAST,
    "qwen3_vl": _FRAMES,
    "qwen3_vl_moe": _FRAMES,
    "qwen3_5": _FRAMES,
    "qwen3_5_moe": _FRAMES,
    "gemma3": "one: the picture squeezed to a square",
    "gemma4": _ASPECT,
    "mistral3": _ASPECT,
    **dict.fromkeys(ENCODERS, _TOWER_SIZE),
    **dict.fromkeys(("siglip2", "siglip2_vision_model", "radio"), _ASPECT),
    "linear_adapter": _TOWER_SIZE,
}
"""What --view shows of a picture, by family."""
SPECIAL = {
    "llava_onevision": "a newline token after the picture and each row of tiles",
    "llava_next": "a newline token after the picture and each row of tiles",
    "qwen2_vl": "rotary positions of three axes",
    "qwen2_5_vl": "rotary positions of three axes; windows in the tower",
    "internvl": "tiles are blocks of tokens, the whole picture last",
    "idefics3": "tiles are blocks of tokens between marks, the whole picture last",
    "smolvlm": "tiles are blocks of tokens between marks, the whole picture last",
    "qwen3_vl": "DeepStack: later runs of other prefixes run the tower again",
    "qwen3_vl_moe": "as Qwen3-VL, with a mixture of experts",
    "qwen3_5": "most layers are linear attention, without keys and values",
    "qwen3_5_moe": "as Qwen3.5, with a mixture of experts",
    "gemma3": "image tokens see each other both ways; sliding windows",
    "gemma4": "layers differ in heads; the last ones may share keys and values",
    "mistral3": "a mark after each row of tokens",
    "siglip": "SigLIP 2 at one size, too; patches and texts in one space",
    "siglip2": "as many whole patches as fit (NaFlex); patches and texts in one space",
    "siglip2_vision_model": "as many whole patches as fit (NaFlex)",
    "clip": "patches and texts in one space",
    "metaclip_2": "patches and texts in one space, texts in many languages",
    "aimv2": "AIMv2-LiT: patches and texts in one space",
    "aimv2_vision_model": "a native one takes any --image-size, another none",
    "tipsv2": "patches and texts in one space as they are; a register is a second class token",
    "tipsv2_vision_model": "a register is a second class token",
    "dinov2_with_registers": "register tokens, left out",
    "dinov3_vit": "rotary positions; register tokens, left out",
    "radio": "class tokens of its teachers and registers, left out; no norm at the end",
}
"""What is special of a family."""


NORMS = {
    "siglip": "post_layernorm",
    "siglip2": "post_layernorm",
    "aimv2": "rms_norm",
    "tipsv2": "layernorm",
    "vit": "layernorm",
    "dinov2": "layernorm",
    "dinov2_with_registers": "layernorm",
    "dinov3_vit": "norm",
}
"""By family of encoders, the norm that its class puts after its last layer, on every token.

CLIP's and MetaCLIP 2's norm the class token alone, RADIO has none.
"""


TOWERS = {"llava_onevision": "siglip", "llava_next": "clip"}
"""By family of multimodal models, the family of encoders that its tower comes from."""


PADS_SEVERAL = ("llava_onevision",)
"""Families whose processor pads each of several pictures in a prompt to a square, and keeps a
picture alone as it is.
"""


ADDS_FEATURES = ("qwen3_vl", "qwen3_vl_moe")
"""Families whose decoder takes more of a picture than enters its first layer (DeepStack), so that
what a run stores before the decoder is not enough to go on from.
"""


TAKES_VIDEOS = (
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "qwen3_5_moe",
)
"""Families whose models are given the frames of a video in one context."""
_LANGUAGE_CLASSES = ("ForCausalLM", "LMHeadModel")
"""How names of classes of transformers end that are a decoder and its head."""
COMMON = "common:"
"""What the families of model types without a file begin with (families/common.py)."""


def family_class(model_type: str) -> Any:
    """Return the class of a model type: that of its file, or else of the common form, which only
    types of image and text in transformers can have.
    """
    if model_type in FAMILIES.names():
        return FAMILIES.load(model_type)
    return import_module("kvtool.models.families.common").common_family(model_type)


def adds_features(family: str) -> bool:
    """Return whether the decoder of a family takes, or may take, more of a picture than enters its
    first layer: of a family without a file nobody said that it does not.
    """
    return family in ADDS_FEATURES or family.startswith(COMMON)


def pads_several(family: str, image_wh_px: tuple[int, int]) -> bool:
    """Return whether a picture enters a prompt of several with other pixels than alone."""
    return family in PADS_SEVERAL and image_wh_px[0] != image_wh_px[1]


def last_norm(family: str, is_encoder: bool, depth: int, vision_layers: Sequence[int]) -> str:
    """The norm that an encoder's last layer is kept after; empty where that layer is not kept."""
    return NORMS.get(family, "") if is_encoder and depth - 1 in vision_layers else ""


def reads_text(model_type: str) -> bool:
    """Whether models of this type have a tokenizer; encoders alone have none."""
    if model_type in FAMILIES.table:
        return model_type not in _VISION_ENCODERS
    return model_type not in FAMILIES.names() or getattr(
        FAMILIES.load(model_type), "reads_text", True
    )


def takes_pictures(config: Mapping[str, Any]) -> bool:
    """Whether a model has an image processor, by its configuration: a language model, which says
    so by its classes and has no tower, has none.
    """
    if "vision_config" in config or str(config.get("model_type")) in FAMILIES.names():
        return True
    classes = config.get("architectures")
    names = [str(name) for name in classes] if isinstance(classes, list) else []
    return not names or not all(name.endswith(_LANGUAGE_CLASSES) for name in names)

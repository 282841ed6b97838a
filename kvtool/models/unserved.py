"""Why a checkpoint whose model type no family is for can't be used, in one line."""

from __future__ import annotations

import re
from typing import Any

from kvtool.models.families import ENCODERS, FAMILIES

_SEES_TEXT = "whose pictures see the text that follows them: what is stored under one question "
UNSERVED = {
    "paligemma": _SEES_TEXT + "would not hold under another; take a model such as Gemma 3",
}
"""Model types of which no run could be made, and why."""


OTHER_FORMS = {
    "llama4": "whose class joins tower and decoder itself, and whose image processor transformers "
    "has for torchvision alone; take a model such as Qwen3-VL",
}
"""Model types of image and text that are not of the common form, and why."""


SEES_OTHER_IMAGES = ("molmo2",)
"""Model types of which images of one prompt see each other, so that what is stored of one would not
hold beside others.
"""
_NO_PATCHES = ("pe_video", "pe_video_encoder", "pe_audio_video", "pe_audio_video_encoder")
"""Perception Encoders for video, which leave one vector a frame."""


ORIGINALS = {
    "RADIOModel": "nvidia/C-RADIOv4-H at a revision whose config.json has the model_type radio",
    "AIMv2Model": "a revision whose config.json has the model_type aimv2_vision_model or aimv2",
}
"""By architecture of encoders whose checkpoints come with code of their own, what to take."""


ORIGINAL_FORMATS = re.compile(r"llava_(llama|mistral|mixtral|qwen|qwen2|mpt|gemma|phi)\w*")
"""Model types of checkpoints in the layout of LLaVA's own repositories, which transformers does not
read.
"""


def is_common(config: Any) -> bool:
    """Whether a model type that no family is for may have the common form (families/common.py):
    transformers has a class of image and text for it.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    model_type = str(config.get("model_type"))
    return (
        model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        and model_type not in {**UNSERVED, **OTHER_FORMS}
        and "auto_map" not in config
    )


def architecture_of(config: Any) -> str:
    """Return the first architecture that a configuration names; empty where it names none."""
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def is_served(config: Any) -> bool:
    """Return whether a family is for a configuration's model type, in transformers' own form."""
    is_original = "auto_map" in config and architecture_of(config) in ORIGINALS
    return str(config.get("model_type")) in FAMILIES.names() and not is_original


def foreign_processor(settings: Any) -> str:
    """What is wrong with the settings of an image processor that brings code of its own and is no
    class of transformers; empty where nothing is.
    """
    import transformers

    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
    classes = settings.get("auto_map")
    brings_code = isinstance(classes, dict) and "AutoImageProcessor" in classes
    # transformers has renamed its classes since some checkpoints were written.
    newest_name = kind.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    if not brings_code or newest_name in dir(transformers):
        return ""
    return (
        f"expected an image processor of transformers' own classes, found {kind!r}, which brings "
        "code of its own, and kvtool runs none of a checkpoint's; take the converted checkpoint"
    )


def unknown_encoder(config: Any) -> str:
    """What is wrong with a configuration of an encoder that no family is for; empty where it is
    none.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_MAPPING_NAMES

    model_type = str(config.get("model_type"))
    architecture = architecture_of(config)
    among = f"an encoder among {', '.join(ENCODERS)}"
    if model_type in _NO_PATCHES:
        return (
            f"expected patches of a picture, found {model_type!r}, whose encoder leaves one vector "
            f"a frame; take {among}"
        )
    if "auto_map" in config and architecture in ORIGINALS:
        return (
            f"expected an encoder of transformers' own classes, found {architecture!r}, which "
            "brings code of its own, and kvtool runs none of a checkpoint's; take "
            f"{ORIGINALS[architecture]}"
        )
    if "pretrained_cfg" in config:
        return (
            "expected an encoder of transformers' own classes, found "
            f"{config.get('architecture')!r} of timm, which kvtool does not run; take {among}"
        )
    if model_type in MODEL_FOR_IMAGE_MAPPING_NAMES and "auto_map" not in config:
        return f"expected {among}, found {model_type!r}; take a model of one of these"
    return ""


def unknown_type(config: Any) -> str:
    """What is wrong with a configuration whose model type no family is for."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = str(config.get("model_type"))
    if reason := UNSERVED.get(model_type):
        return (
            f"expected a picture that depends on nothing after it, found {model_type!r}, {reason}"
        )
    if reason := OTHER_FORMS.get(model_type):
        return (
            "expected a model whose own inner forward takes a picture's features, found "
            f"{model_type!r}, {reason}"
        )
    if reason := unknown_encoder(config):
        return reason
    # Checked late: the lines above name what to take instead.
    if "auto_map" in config:
        return (
            f"expected a model of transformers' own classes, found {model_type!r}, which brings "
            "code of its own, and kvtool runs none of a checkpoint's; take the converted "
            "checkpoint, whose name often ends in -hf"
        )
    if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and "vision_config" not in config:
        return (
            f"expected a model that sees pictures, found {model_type!r}, which reads text alone; "
            "take a multimodal model, or join this one to a vision tower (adapter:DIR)"
        )
    if ORIGINAL_FORMATS.fullmatch(model_type):
        return (
            f"expected a model_type of transformers, found {model_type!r}, the format of LLaVA's "
            "own repository; "
            "take the converted checkpoint, whose name ends in -hf"
        )
    return (
        f"expected a model_type among {', '.join(FAMILIES.names())}, or another of image and text "
        f"in transformers, found {model_type!r}; take a model of one of these"
    )

"""Why a checkpoint whose model type no family is for can't be used, in one line."""

from __future__ import annotations

import re
from typing import Any

from kvtool.models.families import FAMILIES

_SEES_TEXT = "whose pictures see the text that follows them: what is stored under one question "
UNSERVED = {
    "paligemma": _SEES_TEXT + "would not hold under another; take a model such as Gemma 3",
}
"""Model types of which no run could be made, and why."""


SEES_OTHER_IMAGES = ("molmo2",)
"""Model types of which images of one prompt see each other, so that what is stored of one would not
hold beside others.
"""


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
        and model_type not in UNSERVED
        and "auto_map" not in config
    )


def unknown_type(config: Any) -> str:
    """What is wrong with a configuration whose model type no family is for."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = str(config.get("model_type"))
    if reason := UNSERVED.get(model_type):
        return (
            f"expected a picture that depends on nothing after it, found {model_type!r}, {reason}"
        )
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

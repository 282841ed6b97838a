"""Language models of transformers as they are: the decoder, its head and its embeddings."""

from __future__ import annotations

from typing import Any

from torch import nn

from kvtool.errors import ModelError
from kvtool.models.loading import Checkpoint


def load_causal(checkpoint: Checkpoint) -> Any:
    """Load a causal language model, or a multimodal one of which the decoder is used; its shape
    alone where the checkpoint is without weights.

    Raises ModelError where transformers has no such model, or its layers have another name.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoConfig,
    )

    name = checkpoint.snapshot.name
    with checkpoint.reading("a readable config.json"):
        config: Any = AutoConfig.from_pretrained(
            checkpoint.snapshot.path, local_files_only=True, trust_remote_code=False
        )
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING
    # Of a multimodal checkpoint the decoder alone is used.
    multimodal: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    network: type[nn.Module] | None = causal.get(type(config), None)
    network = network or multimodal.get(type(config), None)
    if network is None:
        raise ModelError(
            f"model {name}: expected a causal language model, found {config.model_type!r}, which "
            "transformers has none for"
        )
    net: Any = checkpoint.network(network, config)
    if not isinstance(getattr(net.get_decoder(), "layers", None), nn.ModuleList):
        raise ModelError(
            f"model {name}: expected a decoder with a list of layers, found "
            f"{type(net.get_decoder()).__name__}, which kvtool does not know"
        )
    return net

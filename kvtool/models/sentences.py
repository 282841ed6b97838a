"""Vectors of whole texts, by which descriptions and captions are compared: a language model's mean
states, or a sentence encoder's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from kvtool.errors import ModelError
from kvtool.models.base import Array
from kvtool.models.device import to_device
from kvtool.models.families import FAMILIES
from kvtool.models.files import CONFIG, read_json
from kvtool.models.hub import Snapshot, resolve
from kvtool.models.language import Language, load_language
from kvtool.models.loading import Checkpoint, ModelSettings, check_layers
from kvtool.types import Precision

DEPTH = 0.6
"""The layer of a language model whose states are averaged, as a share of all."""
_BATCH = 32
_POOLING = "1_Pooling/config.json"
"""Where a sentence encoder's folder says how it pools, as sentence-transformers writes it."""
_MOST_TOKENS = 512

Embed = Callable[[Sequence[str]], Array]


def mean_states(language: Language, texts: Sequence[str], layer: int | None = None) -> Array:
    """Return the mean state of each text's tokens after a layer, (text, hidden) float32.

    Args:
        language: The language model.
        texts: The texts, each alone.
        layer: By default that at 0.6 of the depth.

    A text without a token has zeros.
    """
    last = language.n_layers - 1
    depth = min(round(DEPTH * language.n_layers), last) if layer is None else layer
    vectors = np.zeros((len(texts), language.hidden), np.float32)
    for item in language.text_states(texts, [depth]):
        vectors[item.index] = item.states[0].float().mean(dim=0).cpu().numpy()
    return vectors


def load_embedder(name: str, *, device: str = "cpu", dtype: Precision = "float32") -> Embed:
    """Load what turns texts into vectors.

    Args:
        name: A model as load_language takes it, of which the mean states count, or the folder of
            a sentence encoder of transformers (BERT and the like), which is pooled as its
            1_Pooling/config.json says: the first token, or else the mean of all.
        device: cpu, cuda or cuda:N.
        dtype: The precision of the weights.

    Returns a function from texts to (text, d) float32. Raises ModelError where there is no such
    model.
    """
    snapshot = resolve(name)
    config = read_json(snapshot.path / CONFIG)
    if _is_encoder(config):
        check_layers(name, config)
        return _Encoder(snapshot, Checkpoint(snapshot, ModelSettings(device, dtype), weights=True))
    language = load_language(name, device=device, dtype=dtype)
    return lambda texts: mean_states(language, texts)


def _is_encoder(config: Any) -> bool:
    """Tell whether a checkpoint is neither of a family nor a causal language model."""
    # A list of architectures that names no causal model: a text encoder.
    names = config.get("architectures") or []
    is_causal = any("CausalLM" in str(name) for name in names)
    return str(config.get("model_type")) not in FAMILIES.names() and bool(names) and not is_causal


class _Encoder:
    """A sentence encoder: texts -> (text, d) float32."""

    def __init__(self, snapshot: Snapshot, checkpoint: Checkpoint) -> None:
        from transformers import MODEL_MAPPING, AutoConfig

        with checkpoint.reading("a readable config.json"):
            config: Any = AutoConfig.from_pretrained(
                snapshot.path, local_files_only=True, trust_remote_code=False
            )
        classes: Any = MODEL_MAPPING
        network = classes.get(type(config), None)
        if network is None or getattr(config, "is_encoder_decoder", False):
            raise ModelError(
                f"model {snapshot.name}: expected a sentence encoder or a language model, found "
                f"{config.model_type!r}"
            )
        self.checkpoint = checkpoint
        self.network: Any = checkpoint.network(network, config)
        self.tokenizer = checkpoint.tokenizer()
        self.most_tokens = min(
            _MOST_TOKENS, getattr(config, "max_position_embeddings", _MOST_TOKENS)
        )
        # Said by sentence-transformers' own file, where there is one; the mean otherwise.
        pooling = snapshot.path / _POOLING
        self.takes_first = pooling.is_file() and bool(
            read_json(pooling).get("pooling_mode_cls_token")
        )

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Array:
        """Return the vectors of texts, (text, d); those of equal length run together."""
        # Longer texts are cut to what the encoder has positions for.
        ids = [
            self.tokenizer(text, truncation=True, max_length=self.most_tokens).input_ids
            for text in texts
        ]
        vectors = np.zeros((len(texts), int(self.network.config.hidden_size)), np.float32)
        order = sorted(
            (index for index in range(len(texts)) if ids[index]), key=lambda i: len(ids[i])
        )
        start = 0
        while start < len(order):
            length = len(ids[order[start]])
            # As many of one length as fit a batch: without padding the mean is over the text alone.
            batch = [i for i in order[start : start + _BATCH] if len(ids[i]) == length]
            rows = to_device([torch.tensor(ids[i]) for i in batch], self.checkpoint.device)
            with self.checkpoint.running():
                states = self.network(input_ids=rows).last_hidden_state.float()
            pooled = states[:, 0] if self.takes_first else states.mean(dim=1)
            vectors[batch] = pooled.cpu().numpy()
            start += len(batch)
        return vectors

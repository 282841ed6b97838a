"""The side of transformers: its own processor lays out the prompt, its own forward runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from kvtool.models.captured import Captured
from kvtool.types import Kind, View
from tests.contracts.arrays import Array, states_of, to_array
from tests.contracts.encoder_contract import EncoderContract

QUESTION = "what is there"


class TransformersSide(EncoderContract):
    """What transformers makes of the images that kvtool is asked about."""

    mapped: ClassVar[tuple[Kind, ...]] = ("vision", "projected")
    image_token: ClassVar[str]
    marker: ClassVar[str]
    """What the chat template writes for an image."""

    def own_processor(self, folder: Path) -> Any:
        """transformers' own processor of image and text."""
        raise NotImplementedError

    def own_tower(self, reference: Any, inputs: dict[str, Any]) -> list[Array]:
        """Outputs (view, patch, dim) of each tower layer, by transformers, class tokens left
        out.
        """
        raise NotImplementedError

    def own_features(self, reference: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Image tokens (token, hidden) as transformers hands them to the decoder."""
        features: torch.Tensor = reference.model.get_image_features(
            **{
                name: inputs[name]
                for name in inputs
                if name not in ("input_ids", "attention_mask", "mm_token_type_ids")
            }
        ).pooler_output[0]
        return features

    def own_inputs(
        self,
        reference: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str = "",
        question: str = QUESTION,
    ) -> dict[str, Any]:
        """transformers' inputs of the whole prompt; the base view of a family with tiles overrides
        this.
        """
        assert view in self.views
        del reference
        processor = self.own_processor(folder)
        turn = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
        ]
        text = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        assert text.count(self.marker) == 1
        if prefix:
            text = text.replace(self.marker, f"{prefix}\n{self.marker}")
        return dict(processor(images=image, text=text, return_tensors="pt"))

    def own_pass(
        self,
        reference: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str = "",
        question: str = QUESTION,
    ) -> tuple[list[Any], list[Any], Array]:
        """Keys and values (kv_head, token, dim) of each layer, and logits, of transformers' whole
        prompt.
        """
        with torch.inference_mode():
            outputs = reference(
                **self.own_inputs(reference, folder, image, view, prefix, question), use_cache=True
            )
        layers = outputs.past_key_values.layers
        keys, values = ([states_of(layer, name) for layer in layers] for name in ("key", "value"))
        return keys, values, to_array(outputs.logits[0])

    def stored(self, captured: Captured, index: int = 0) -> dict[str, Array]:
        """What a store would hold of an image, through bytes and back."""
        arrays: dict[str, Array] = {name: items[index] for name, items in captured.arrays.items()}
        arrays |= {f"text_{name}": items[index] for name, items in captured.text.items()}
        return {
            name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
            for name, array in arrays.items()
        }

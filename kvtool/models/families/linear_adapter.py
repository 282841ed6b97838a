"""A frozen language model and a frozen vision tower, joined by one linear layer (Merullo et al.
2023, "LiMBeR").

Its folder holds a `config.json` that names both models, and the layer's weights; the models
themselves stay where they are. An image's patches go through the layer and stand in the prompt as
word embeddings do; nothing of either model was trained for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from kvtool.errors import ImageError, ModelError
from kvtool.models.adapters import JoinedModel, read_settings
from kvtool.models.base import Prepared, sample_of
from kvtool.models.causal import load_causal
from kvtool.models.decoder import DecoderModel
from kvtool.models.encoder import Encoder
from kvtool.models.hub import resolve
from kvtool.models.loading import Checkpoint, load
from kvtool.models.prompts import Prompt
from kvtool.types import GridSpan, View

IMAGE = "<|kvtool_image|>"
"""Stands for the image while a prompt is laid out; no token of it is ever run."""
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""The prompt of a language model without a chat template: what the user says and nothing else."""


class LinearAdapter(DecoderModel):
    """Folders of model_type linear_adapter."""

    family = "linear_adapter"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        folder = checkpoint.snapshot.path
        self.adapter = read_settings(folder)
        language = self._part(self.adapter.language)
        self.net = load_causal(language)
        self.config = self.net.config.get_text_config()
        self.language_model = self.net.get_decoder()
        self.tower = self._tower()
        self.linear = self._linear(folder)
        tokenizer = language.tokenizer()
        # The image's own mark: no text can hold it, and no token of it is ever run.
        tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
        self.prompt = Prompt(
            tokenizer,
            language.snapshot.path,
            IMAGE,
            self.opening,
            self.fallback_template(),
            checkpoint.settings.system,
        )
        self.info = checkpoint.info(self.family, self.geometry(), self.prompt.template)

    def _part(self, joined: JoinedModel) -> Checkpoint:
        """Return the checkpoint of one of the two models. Raises ModelError for another one than
        the layer was trained between.
        """
        ours = self.checkpoint
        snapshot = resolve(joined.name, ours.weights)
        if snapshot.revision and joined.revision and snapshot.revision != joined.revision:
            raise ModelError(
                f"model {ours.snapshot.name}: expected {joined.name} of revision "
                f"{joined.revision}, between which and the tower the layer was trained, found "
                f"{snapshot.revision}; put the same checkpoint there"
            )
        return Checkpoint(snapshot, ours.settings, ours.weights)

    def _tower(self) -> Encoder:
        """Return the vision tower. Raises ModelError where it is no encoder, or lacks the layer."""
        vision = self.adapter.vision
        # Its revision is compared, and its weights are loaded by its own family below.
        self._part(vision)
        # A system text is the language model's alone.
        settings = replace(self.checkpoint.settings, system="")
        tower = load(vision.name, settings, self.checkpoint.weights)
        if not isinstance(tower, Encoder):
            raise ModelError(
                f"model {self.checkpoint.snapshot.name}: expected a vision tower, found "
                f"{vision.name}, a {tower.info.family}"
            )
        count = tower.info.geometry.vision_layers
        if not 0 <= self.adapter.layer < count:
            raise ModelError(
                f"model {self.checkpoint.snapshot.name}: expected a layer from 0 to {count - 1} of "
                f"{vision.name}, found {self.adapter.layer}"
            )
        return tower

    def _linear(self, folder: Path) -> torch.nn.Linear:
        """Return the layer, in float32. Raises ModelError where it fits neither model."""
        d_vision = self.tower.info.geometry.vision_dim
        d_language = self.config.hidden_size
        # On no device: nothing is allocated where only the shape is asked for.
        linear = torch.nn.Linear(d_vision, d_language, device="meta")
        if not self.checkpoint.weights:
            return linear
        path = folder / self.adapter.weights
        try:
            weights = load_file(path)
        except (OSError, SafetensorError, ValueError) as error:
            raise ModelError(f"{path}: expected safetensors, found: {error}") from None
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        expected = {"weight": (d_language, d_vision), "bias": (d_language,)}
        if shapes != expected:
            raise ModelError(
                f"{path}: expected weight {expected['weight']} and bias {expected['bias']} for "
                f"{self.adapter.language.name} and {self.adapter.vision.name}, found {shapes}; "
                "it is of other models"
            )
        # In float32, as the features that it reads are.
        state = {name: weight.float() for name, weight in weights.items()}
        linear.load_state_dict(state, assign=True)
        return linear.requires_grad_(False).to(self.checkpoint.device)

    def question(self, text: str) -> str:
        """See LanguageModel.question."""
        return self.prompt.question(self.adapter.marker + text)

    def fallback_template(self) -> str:
        """Return the prompt of a language model without a chat template."""
        return PLAIN

    def default_vision_layers(self) -> tuple[int, ...]:
        """Return the tower layer that the adapter reads."""
        return (self.adapter.layer,)

    def vision_size(self) -> tuple[int, int]:
        """Return (layers, dim) of the tower."""
        geometry = self.tower.info.geometry
        return geometry.vision_layers, geometry.vision_dim

    def text_config(self) -> Any:
        """Return the settings of the decoder, which are the whole configuration here."""
        return self.config

    def prepare(
        self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base"
    ) -> Prepared:
        """See Model.prepare. There is one view: base and full are the same."""
        prepared = self.tower.prepare(image, id=id, index=index, view=view)
        # The grid of tokens covers what the patches cover: pooling only makes cells larger.
        (patches,) = prepared.sample.vision_spans
        prefix_ids = self.prompt.prefix_ids(prefix)
        sample = sample_of(
            image,
            id=id,
            index=index,
            prefix=prefix,
            prefix_ids=prefix_ids,
            spans=(self._pooled(patches, id),),
            vision_spans=(patches,),
        )
        return Prepared(sample, prepared.tensors, (prepared.signature, len(prefix_ids)))

    def _pooled(self, patches: GridSpan, id: str) -> GridSpan:
        """Return the grid of tokens that patches are averaged to. Raises ImageError."""
        pool = self.adapter.pool
        rows, cols = patches.grid
        if rows % pool or cols % pool:
            raise ImageError(
                f"image {id}: expected a grid of patches that {pool} x {pool} divide, found "
                f"{rows} x {cols}; take an adapter that was trained for this tower"
            )
        grid = rows // pool, cols // pool
        return GridSpan("base", 0, grid, grid[1], patches.cover_xyxy_px)

    def encode(
        self, batch: Sequence[Prepared], vision_layers: Sequence[int], project: bool
    ) -> tuple[torch.Tensor | None, dict[int, torch.Tensor]]:
        """Run the tower, and put patches through the layer; see DecoderModel.encode."""
        # One pass of the tower gives the layer that is read and those that are stored.
        needed = sorted({*vision_layers, *([self.adapter.layer] if project else [])})
        outputs = self.tower.patch_outputs(batch, needed)
        vision = {layer: outputs[layer] for layer in vision_layers}
        if not project:
            return None, vision
        (patches,) = batch[0].sample.vision_spans
        features = pooled(outputs[self.adapter.layer], patches.grid, self.adapter.pool)
        tokens: torch.Tensor = self.linear(features)
        return tokens.to(self.checkpoint.dtype), vision

    def features(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """Return what the layer reads of images of one signature, (image, token, vision dim) in
        float32.
        """
        outputs = self.tower.patch_outputs(batch, [self.adapter.layer])
        (patches,) = batch[0].sample.vision_spans
        return pooled(outputs[self.adapter.layer], patches.grid, self.adapter.pool)


def pooled(patches: torch.Tensor, grid: tuple[int, int], pool: int) -> torch.Tensor:
    """Average patches (image, patch, dim) over squares of a grid; (image, token, dim) in
    float32.
    """
    rows, cols = grid
    count, _, dim = patches.shape
    # (image, token row, row in square, token col, col in square, dim), averaged over the square.
    squares = patches.float().reshape(count, rows // pool, pool, cols // pool, pool, dim)
    return squares.mean(dim=(2, 4)).flatten(1, 2)

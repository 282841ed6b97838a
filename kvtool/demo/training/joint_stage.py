"""Stages 3 and 4: the projector is fitted to symbolic grids, then everything is trained on answers."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaOnevisionForConditionalGeneration

from kvtool.demo.training.batches import Asker, draws
from kvtool.demo.training.config import IMAGE_TOKENS, TEXT_DIM, Slots, TrainingSettings
from kvtool.demo.training.contexts import Batch, Contexts
from kvtool.demo.training.data import World
from kvtool.demo.training.language_stage import GridStage, answer_loss
from kvtool.demo.training.model import decoder, tower
from kvtool.demo.training.packed import decode, packed_positions
from kvtool.demo.training.symbols import symbolic_grid, symbols
from kvtool.demo.training.text import token_ids
from kvtool.demo.training.vision_stage import look, pixels
from kvtool.demo.world import Scene


class AlignStage:
    """The projector alone: squared distance to the symbolic token of each patch. Tower and embeddings stay."""

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        world: World,
        settings: TrainingSettings,
    ):
        self.model, self.world, self.settings = model, world, settings
        self._look = torch.compile(look, dynamic=False) if settings.compiled else look

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        pool = self.world.scenes
        indices = sorted(draws(rng, len(pool), self.settings.tower_batch))
        scenes = [cast(Scene, pool.items[index]) for index in indices]
        words, weights = symbols(scenes, pool.patches[indices])
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            features = self._look(tower(self.model), pixels(pool.images[indices])).float()
            wanted = symbolic_grid(decoder(self.model).embed_tokens.weight.float(), words, weights)
        error = (self.model.model.multi_modal_projector(features) - wanted).pow(2).mean(-1)
        # Things fill a fifth of the patches and matter most.
        weight = torch.where(words[:, :, 1] > 0, 1.0, 0.2)
        loss = (error * weight).sum() / weight.sum()
        spread = (wanted - wanted.mean(dim=(0, 1))).pow(2).mean(-1)
        return {"loss": loss / (spread * weight).sum() * weight.sum()}


class JointStage:
    """Real images through tower, projector and decoder; the loss is on the answers alone."""

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        world: World,
        settings: TrainingSettings,
    ):
        self.model, self.settings = model, settings
        self.contexts = Contexts(
            world,
            settings.slots,
            Asker(settings.joint_drills, settings.joint_stubs, settings.joint_chains),
        )
        self.grid = GridStage(model, world, settings)
        self._see = (
            torch.compile(self._features, dynamic=False) if settings.compiled else self._features
        )

    def _features(self, values: Tensor) -> Tensor:
        """(n, 3, 96, 96) -> (n, 144, 128)."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            projected: Tensor = self.model.model.multi_modal_projector(
                look(tower(self.model), values)
            )
            return projected

    def draw(self, rng: np.random.Generator) -> Batch | None:
        """One image, one with a prefix, several images, or None for a batch of symbolic grids or text."""
        choice = rng.random()
        if choice < 0.12:
            return None
        if choice < 0.2:
            return self.contexts.many_images(rng, max(1, 3 * self.settings.batch // 8))
        return self.contexts.one_image(rng, self.settings.batch, prefixed=choice < 0.34)

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        batch = self.draw(rng)
        if batch is None:
            return {"loss": self.grid.loss(rng)["loss"]}
        return answer_loss(self.model, self.states(batch), batch.packed)

    def states(self, batch: Batch, slots: Slots | None = None) -> tuple[Tensor, Tensor]:
        """Last and early states (B, T, 128) of contexts and slots; other slots than the settings' run uncompiled."""
        model, compiled = self.model, self.settings.compiled and slots is None
        images = pixels(batch.images)
        # One compiled shape for any number of images: fill up, then cut.
        room = self.settings.batch * -(-len(images) // self.settings.batch)
        seen = self._see(F.pad(images, (0, 0, 0, 0, 0, 0, 0, room - len(images))))[: len(images)]
        newline = model.model.image_newline.to(seen.dtype).expand(len(images), 1, -1)
        features = torch.cat((seen, newline), dim=1).reshape(-1, TEXT_DIM).to(torch.bfloat16)
        x = (
            decoder(model)
            .embed_tokens(torch.cat((batch.context_ids, batch.packed.ids), dim=1))
            .to(torch.bfloat16)
        )
        context, slots = batch.context_ids.shape[1], slots or self.settings.slots
        at_image = torch.zeros(x.shape[:2], dtype=torch.bool)
        at_image[:, :context] = batch.context_ids == token_ids()["<image>"]
        x = x.masked_scatter(at_image[..., None], features)
        position = packed_positions(batch.lengths, context, slots)
        return decode(decoder(model), x, position, batch.bias, context, slots, compiled=compiled)


__all__ = ["IMAGE_TOKENS", "AlignStage", "JointStage"]

"""Stages 3 and 4: the projector is fitted to symbolic grids, then all is trained on answers."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaOnevisionForConditionalGeneration

from kvtool.demo.training.batches import Asker, draws
from kvtool.demo.training.config import IMAGE_TOKENS, TEXT_DIM, Slots, TrainingSettings
from kvtool.demo.training.contexts import ContextBatch, Contexts
from kvtool.demo.training.data import World
from kvtool.demo.training.language_stage import GridStage, answer_loss
from kvtool.demo.training.model import decoder, tower
from kvtool.demo.training.packed import decode, packed_positions
from kvtool.demo.training.precision import DTYPE, autocast
from kvtool.demo.training.symbols import symbolic_grid, symbols
from kvtool.demo.training.text import token_ids
from kvtool.demo.training.vision_stage import look, pixels
from kvtool.demo.world import Scene


class AlignStage:
    """The stage of the projector: the squared distance to the symbolic token of each patch.

    Tower and embeddings stay as they are.
    """

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        world: World,
        settings: TrainingSettings,
    ):
        self.model = model
        self.world = world
        self.settings = settings
        self._look = torch.compile(look, dynamic=False) if settings.compiled else look

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the distance of a random batch, relative to the variance of the targets."""
        pool = self.world.scenes
        indices = sorted(draws(rng, len(pool), self.settings.tower_batch))
        scenes = [cast(Scene, pool.items[index]) for index in indices]
        word_ids, weights = symbols(scenes, pool.patches[indices])
        table = decoder(self.model).embed_tokens.weight.float()
        with torch.no_grad(), autocast():
            features = self._look(tower(self.model), pixels(pool.images[indices])).float()
            target = symbolic_grid(table, word_ids, weights)
        error = (self.model.model.multi_modal_projector(features) - target).pow(2).mean(-1)
        # Things fill a fifth of the patches and matter most.
        weight = torch.where(word_ids[:, :, 1] > 0, 1.0, 0.2)
        loss = (error * weight).sum() / weight.sum()
        # Relative to the spread of the targets: a loss of 1 is no better than their mean.
        spread = (target - target.mean(dim=(0, 1))).pow(2).mean(-1)
        return {"loss": loss / (spread * weight).sum() * weight.sum()}


class JointStage:
    """The stage of real images, which go through tower, projector and decoder.

    The loss is that of the answers alone.
    """

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        world: World,
        settings: TrainingSettings,
    ):
        self.model = model
        self.settings = settings
        asker = Asker(settings.joint_drills, settings.joint_stubs, settings.joint_chains)
        self.contexts = Contexts(world, settings.slots, asker)
        self.grid = GridStage(model, world, settings)
        self._see = (
            torch.compile(self._features, dynamic=False) if settings.compiled else self._features
        )

    def _features(self, values: Tensor) -> Tensor:
        """Project images (n, 3, 96, 96) to image tokens (n, 144, 128)."""
        with autocast():
            features = look(tower(self.model), values)
            projected: Tensor = self.model.model.multi_modal_projector(features)
            return projected

    def draw(self, rng: np.random.Generator) -> ContextBatch | None:
        """Draw contexts of one image, with or without a prefix, or of several images.

        None stands for a batch of symbolic grids or text.
        """
        choice = rng.random()
        if choice < 0.12:
            return None
        if choice < 0.2:
            return self.contexts.many_images(rng, max(1, 3 * self.settings.batch // 8))
        return self.contexts.one_image(rng, self.settings.batch, prefixed=choice < 0.34)

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the loss of a random batch, see `answer_loss`."""
        batch = self.draw(rng)
        if batch is None:
            return {"loss": self.grid.loss(rng)["loss"]}
        return answer_loss(self.model, self.states(batch), batch.packed)

    def states(self, batch: ContextBatch, slots: Slots | None = None) -> tuple[Tensor, Tensor]:
        """Compute last and early states (B, T, 128) of contexts and slots.

        Other slots than those of the settings run uncompiled.
        """
        model = self.model
        compiled = self.settings.compiled and slots is None
        slots = slots or self.settings.slots
        features = self._image_tokens(batch)
        ids = torch.cat((batch.context_ids, batch.packed.ids), dim=1)
        x = decoder(model).embed_tokens(ids).to(DTYPE)
        # Image tokens replace the marks of the context, not those that a slot may hold.
        context = batch.context_ids.shape[1]
        at_image = torch.zeros(x.shape[:2], dtype=torch.bool)
        at_image[:, :context] = batch.context_ids == token_ids()["<image>"]
        x = x.masked_scatter(at_image[..., None], features)
        position = packed_positions(batch.lengths, context, slots)
        return decode(decoder(model), x, position, batch.bias, context, slots, compiled=compiled)

    def _image_tokens(self, batch: ContextBatch) -> Tensor:
        """Return the tokens (tokens, 128) of all images in a row, each with a newline."""
        images = pixels(batch.images)
        # One compiled shape for any number of images: fill up, then cut.
        room = self.settings.batch * -(-len(images) // self.settings.batch)
        filled = F.pad(images, (0, 0, 0, 0, 0, 0, 0, room - len(images)))
        tokens = self._see(filled)[: len(images)]
        newline = self.model.model.image_newline.to(tokens.dtype).expand(len(images), 1, -1)
        return torch.cat((tokens, newline), dim=1).reshape(-1, TEXT_DIM).to(DTYPE)


__all__ = ["IMAGE_TOKENS", "AlignStage", "JointStage"]

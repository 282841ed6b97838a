"""Stage 1: the decoder alone, on scenes in words, then on symbolic grids (symbols.py)."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaOnevisionForConditionalGeneration

from kvtool.demo.training.batches import TEXT_CONTEXT, Asker, Packed, draws, padded, text_context
from kvtool.demo.training.config import IGNORED, TrainingSettings
from kvtool.demo.training.data import World
from kvtool.demo.training.model import decoder
from kvtool.demo.training.packed import decode, packed_positions
from kvtool.demo.training.precision import DTYPE
from kvtool.demo.training.symbols import blurred, few_patches, symbolic_grid, symbols
from kvtool.demo.training.text import token_ids
from kvtool.demo.world import Scene

FEW_TOKENS = 12


def answer_loss(
    model: LlavaOnevisionForConditionalGeneration, states: tuple[Tensor, Tensor], packed: Packed
) -> dict[str, Tensor]:
    """Compute the cross-entropy over the labeled positions, and the share of right tokens.

    The cross-entropy of the drills on the early states is added.

    Args:
        model: The model, whose embedding is the output layer too.
        states: Last and early states (B, T, dim) of contexts and slots, see `packed.decode`.
        packed: The slots.
    """
    last, early = (state[:, -packed.ids.shape[1] :] for state in states)
    loss, right = _cross_entropy(model, last, packed.labels)
    if (packed.early != IGNORED).any():
        early_loss, early_right = _cross_entropy(model, early, packed.early)
        return {"loss": loss + 0.5 * early_loss, "right": right, "early": early_right}
    return {"loss": loss, "right": right}


def _cross_entropy(
    model: LlavaOnevisionForConditionalGeneration, states: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    labeled = labels != IGNORED
    logits = states[labeled] @ decoder(model).embed_tokens.weight.to(states.dtype).T
    target = labels[labeled]
    return F.cross_entropy(logits.float(), target), (logits.argmax(-1) == target).float().mean()


class TextStage:
    """The stage of a scene in words, and questions on it."""

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        world: World,
        settings: TrainingSettings,
    ):
        self.model = model
        self.world = world
        self.settings = settings
        self.asker = Asker(settings.drills, settings.stubs, settings.chains)

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the loss of a random batch, see `answer_loss`."""
        settings = self.settings
        pool = self.world.scenes.items
        scenes = [cast(Scene, pool[index]) for index in draws(rng, len(pool), settings.batch)]
        # The scene stands in words before the questions: the decoder learns to read before it sees.
        ids, lengths, bias = padded([text_context(scene, rng) for scene in scenes], TEXT_CONTEXT)
        packed = self.asker.pack(scenes, rng, settings.slots)
        inputs = torch.cat((ids, packed.ids), dim=1)
        x = decoder(self.model).embed_tokens(inputs).to(DTYPE)
        position = packed_positions(lengths, TEXT_CONTEXT, settings.slots)
        states = decode(
            decoder(self.model), x, position, bias, TEXT_CONTEXT, settings.slots, settings.compiled
        )
        return answer_loss(self.model, states, packed)


class GridStage:
    """The stage of a scene as symbolic tokens instead of the image, and questions on it.

    Of four batches one is text. Of the others, a share `settings.compact` has a dozen patches
    instead of the grid.
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
        self.asker = Asker(settings.drills, settings.stubs, settings.chains)
        self.text = TextStage(model, world, settings)

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the loss of a random batch, see `answer_loss`."""
        if rng.random() < 0.25:
            return _prefixed("text", self.text.loss(rng))
        few = rng.random() < self.settings.compact
        return self.grid_loss(rng, few)

    def grid_loss(self, rng: np.random.Generator, few: bool) -> dict[str, Tensor]:
        """Compute the loss of a random batch of grids, or of a few patches of each."""
        settings = self.settings
        pool = self.world.scenes
        indices = list(draws(rng, len(pool), settings.batch))
        scenes = [cast(Scene, pool.items[index]) for index in indices]
        packed = self.asker.pack(scenes, rng, settings.slots)
        word_ids, weights = symbols(scenes, pool.patches[indices])
        table = decoder(self.model).embed_tokens.weight
        patches = few_patches(rng, pool.patches[indices], FEW_TOKENS) if few else None
        # Fainter words and noise, so that the decoder gets used to an imperfect tower.
        grid = symbolic_grid(table, word_ids, blurred(rng, weights, 0.5), patches)
        noise = torch.from_numpy(rng.normal(0, 0.3, size=grid.shape).astype(np.float32))
        grid = grid + noise * table.detach().std()
        # The prompt: its head, the grid, a newline, and the slots.
        ids = token_ids()
        head = table[torch.tensor([ids["<|im_start|>"], ids["user"]])].expand(len(scenes), -1, -1)
        newline = self.model.model.image_newline.expand(len(scenes), 1, -1)
        x = torch.cat((head, grid, newline, table[packed.ids]), dim=1).to(DTYPE)
        context = 2 + grid.shape[1] + 1
        position = packed_positions(torch.full((len(scenes),), context), context, settings.slots)
        bias = torch.zeros(len(scenes), context)
        states = decode(
            decoder(self.model), x, position, bias, context, settings.slots, settings.compiled
        )
        figures = answer_loss(self.model, states, packed)
        return _prefixed("few", figures) if few else figures


def _prefixed(prefix: str, figures: dict[str, Tensor]) -> dict[str, Tensor]:
    """Log the figures under names with a prefix; the loss remains what is descended."""
    log = {f"{prefix} {name}": figure for name, figure in figures.items()}
    return log | {"loss": figures["loss"]}

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
from kvtool.demo.training.symbols import blurred, few_patches, symbolic_grid, symbols
from kvtool.demo.training.text import token_ids
from kvtool.demo.world import Scene

FEW_TOKENS = 12


def answer_loss(
    model: LlavaOnevisionForConditionalGeneration, states: tuple[Tensor, Tensor], packed: Packed
) -> dict[str, Tensor]:
    """Cross-entropy over the labeled positions, with that of the drills on the early states; share of right tokens.

    `states` as `decode` gives them, of contexts and slots.
    """
    last, early = (state[:, -packed.ids.shape[1] :] for state in states)
    loss, right = _cross_entropy(model, last, packed.labels)
    if (packed.early != IGNORED).any():
        soon, known = _cross_entropy(model, early, packed.early)
        return {"loss": loss + 0.5 * soon, "right": right, "early": known}
    return {"loss": loss, "right": right}


def _cross_entropy(
    model: LlavaOnevisionForConditionalGeneration, states: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    wanted = labels != IGNORED
    logits = states[wanted] @ decoder(model).embed_tokens.weight.to(states.dtype).T
    target = labels[wanted]
    return F.cross_entropy(logits.float(), target), (logits.argmax(-1) == target).float().mean()


class TextStage:
    """A scene in words, and questions on it."""

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        world: World,
        settings: TrainingSettings,
    ):
        self.model, self.world, self.settings, self.asker = (
            model,
            world,
            settings,
            Asker(settings.drills, settings.stubs, settings.chains),
        )

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        settings, pool = self.settings, self.world.scenes.items
        scenes = [cast(Scene, pool[index]) for index in draws(rng, len(pool), settings.batch)]
        ids, lengths, bias = padded([text_context(scene, rng) for scene in scenes], TEXT_CONTEXT)
        packed = self.asker.pack(scenes, rng, settings.slots)
        inputs = torch.cat((ids, packed.ids), dim=1)
        x = decoder(self.model).embed_tokens(inputs).to(torch.bfloat16)
        position = packed_positions(lengths, TEXT_CONTEXT, settings.slots)
        states = decode(
            decoder(self.model), x, position, bias, TEXT_CONTEXT, settings.slots, settings.compiled
        )
        return answer_loss(self.model, states, packed)


class GridStage:
    """A scene as symbolic tokens in the place of the image, and questions on it.

    Of four batches one is text. Of the others, a share `settings.compact` keeps a dozen patches instead of the grid.
    """

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        world: World,
        settings: TrainingSettings,
    ):
        self.model, self.world, self.settings = model, world, settings
        self.asker, self.text = (
            Asker(settings.drills, settings.stubs, settings.chains),
            TextStage(model, world, settings),
        )

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        if rng.random() < 0.25:
            figures = self.text.loss(rng)
            return {f"text {name}": figure for name, figure in figures.items()} | {
                "loss": figures["loss"]
            }
        few = rng.random() < self.settings.compact
        return self.grid_loss(rng, few)

    def grid_loss(self, rng: np.random.Generator, few: bool) -> dict[str, Tensor]:
        settings, pool = self.settings, self.world.scenes
        indices = list(draws(rng, len(pool), settings.batch))
        scenes = [cast(Scene, pool.items[index]) for index in indices]
        packed = self.asker.pack(scenes, rng, settings.slots)
        words, weights = symbols(scenes, pool.patches[indices])
        table = decoder(self.model).embed_tokens.weight
        chosen = few_patches(rng, pool.patches[indices], FEW_TOKENS) if few else None
        grid = symbolic_grid(table, words, blurred(rng, words, weights, 0.5), chosen)
        noise = torch.from_numpy(rng.normal(0, 0.3, size=grid.shape).astype(np.float32))
        grid = grid + noise * table.detach().std()
        ids = token_ids()
        head = table[torch.tensor([ids["<|im_start|>"], ids["user"]])].expand(len(scenes), -1, -1)
        newline = self.model.model.image_newline.expand(len(scenes), 1, -1)
        x = torch.cat((head, grid, newline, table[packed.ids]), dim=1).to(torch.bfloat16)
        context = 2 + grid.shape[1] + 1
        position = packed_positions(torch.full((len(scenes),), context), context, settings.slots)
        bias = torch.zeros(len(scenes), context)
        states = decode(
            decoder(self.model), x, position, bias, context, settings.slots, settings.compiled
        )
        figures = answer_loss(self.model, states, packed)
        return (
            {f"few {name}": figure for name, figure in figures.items()} | {"loss": figures["loss"]}
            if few
            else figures
        )

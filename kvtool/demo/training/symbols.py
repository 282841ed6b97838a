"""Symbolic image tokens: for each patch the sum of the embeddings of the words that are true of it.

The decoder learns to read such grids before it sees a pixel, and the projector is first fitted to them, so that
matching a word of a question with a patch of an image works from the start.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kvtool.demo.shapes import part_names
from kvtool.demo.training.config import GRID, IMAGE_TOKENS
from kvtool.demo.training.text import token_ids
from kvtool.demo.world import Scene

THING_WEIGHTS = {"category": 1.0, "color": 1.0, "texture": 0.7, "size": 0.7}
PART_WEIGHT, MIDDLE_WEIGHT, SCENE_WEIGHT, BACKGROUND_WEIGHT = 0.5, 1.0, 0.5, 0.5
WORDS_A_PATCH = 9


@cache
def _positions() -> Tensor:
    """(144, 4), row by row: how far left, right, up and down of the middle each patch is, 0 to 2; steep at first."""
    middle = (torch.arange(GRID) + 0.5) / GRID * 2 - 1
    rows, columns = torch.meshgrid(middle, middle, indexing="ij")
    offsets = (
        torch.stack((-columns, columns, -rows, rows), dim=-1).clamp_min(0).view(IMAGE_TOKENS, 4)
    )
    return offsets + (3 * offsets).clamp_max(1)


def symbols(scenes: list[Scene], patches: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Word ids (B, 144, 9) and their weights; unused places have weight 0.

    Order: four of the thing or `background` alone, part, middle, then place, time and style of the whole scene.
    """
    vocabulary = token_ids()
    words = np.zeros((len(scenes), IMAGE_TOKENS, WORDS_A_PATCH), dtype=np.int64)
    weights = np.zeros(words.shape, dtype=np.float32)
    parts = np.asarray([0, *(vocabulary[name] for name in part_names())])
    for row, scene in enumerate(scenes):
        seen, part, middle = (each.reshape(-1) for each in patches[row])
        words[row, :, 0], weights[row, :, 0] = vocabulary["background"], BACKGROUND_WEIGHT
        for index, thing in enumerate(scene.things):
            here = seen == index + 1
            for column, (name, weight) in enumerate(THING_WEIGHTS.items()):
                words[row, here, column] = vocabulary[getattr(thing, name)]
                weights[row, here, column] = weight
        words[row, :, 4], weights[row, :, 4] = parts[part], PART_WEIGHT * (part > 0)
        words[row, :, 5], weights[row, :, 5] = vocabulary["object"], MIDDLE_WEIGHT * (middle > 0)
        for column, word in enumerate((scene.place, scene.time, scene.style)):
            words[row, :, 6 + column], weights[row, :, 6 + column] = vocabulary[word], SCENE_WEIGHT
    return torch.from_numpy(words), torch.from_numpy(weights)


def spread_opposites(table: Tensor, seed: int, distance: float = 3.2) -> None:
    """Push the embeddings of left and right, and of top and bottom, apart along a random direction. In place.

    As long as a model answers one or the other at random, training draws the two together, until grids hardly
    tell them apart.
    """
    generator, ids = torch.Generator().manual_seed(seed), token_ids()
    with torch.no_grad():
        for one, other in (("left", "right"), ("top", "bottom")):
            way = torch.randn(table.shape[1], generator=generator)
            way = way / way.norm() * distance / 2
            table[ids[one]] += way
            table[ids[other]] -= way


def symbolic_grid(
    table: Tensor, words: Tensor, weights: Tensor, chosen: Tensor | None = None
) -> Tensor:
    """Embeddings `table` (words, dim) -> image tokens (B, 144, dim), or (B, n, dim) of the `chosen` patches (B, n)."""
    ids = token_ids()
    sides = table[torch.tensor([ids[name] for name in ("left", "right", "top", "bottom")])]
    places = _positions()
    if chosen is not None:
        rows = torch.arange(len(words))[:, None]
        words, weights, places = words[rows, chosen], weights[rows, chosen], places[chosen]
    summed = torch.einsum("bpw,bpwd->bpd", weights, table[words])
    return summed + places @ sides


def few_patches(rng: np.random.Generator, patches: npt.NDArray[np.uint8], count: int) -> Tensor:
    """(B, count) patch indices: one of every thing (its middle, where that can be seen), the rest background, shuffled.

    Over so few tokens even untrained attention gives each thing a share, which is what matching starts from.
    """
    chosen = np.zeros((len(patches), count), dtype=np.int64)
    for row, (seen, _, middle) in enumerate(patches.reshape(len(patches), 3, -1)):
        found = []
        for index in range(1, int(seen.max(initial=0)) + 1):
            spots = np.flatnonzero((seen == index) & (middle == index))
            spots = spots if len(spots) else np.flatnonzero(seen == index)
            if len(spots):
                found.append(int(rng.choice(spots)))
        empty = np.flatnonzero(seen == 0)
        whole = [*found[:count], *rng.choice(empty, size=count)][:count]
        chosen[row] = rng.permutation(whole)
    return torch.from_numpy(chosen)


def blurred(rng: np.random.Generator, words: Tensor, weights: Tensor, strength: float) -> Tensor:
    """Weights as a real tower might give them: each word fainter by chance, some missing."""
    shape = tuple(words.shape)
    faint = torch.from_numpy(rng.uniform(1 - 0.6 * strength, 1, size=shape).astype(np.float32))
    kept = torch.from_numpy((rng.random(shape) > 0.12 * strength).astype(np.float32))
    return weights * faint * kept

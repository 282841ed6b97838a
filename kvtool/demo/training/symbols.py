"""Symbolic image tokens: for each patch the sum of the embeddings of the words that are true of it.

The decoder learns to read such grids before it sees a pixel, and the projector is first fitted to
them, so that matching a word of a question with a patch of an image works from the start.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kvtool.demo.language import HALVES
from kvtool.demo.shapes import part_names
from kvtool.demo.training.config import GRID, IMAGE_TOKENS
from kvtool.demo.training.text import token_ids
from kvtool.demo.world import Scene

THING_WEIGHTS = {"category": 1.0, "color": 1.0, "texture": 0.7, "size": 0.7}
PART_WEIGHT = 0.5
MIDDLE_WEIGHT = 1.0
SCENE_WEIGHT = 0.5
BACKGROUND_WEIGHT = 0.5
WORDS_A_PATCH = 9


@cache
def _positions() -> Tensor:
    """Return how far left, right, up and down of the middle each patch is, (144, 4), 0 to 2.

    The numbers rise steeply near the middle, so that the two sides of it are told apart.
    """
    middle = (torch.arange(GRID) + 0.5) / GRID * 2 - 1
    rows, columns = torch.meshgrid(middle, middle, indexing="ij")
    offsets = (
        torch.stack((-columns, columns, -rows, rows), dim=-1).clamp_min(0).view(IMAGE_TOKENS, 4)
    )
    return offsets + (3 * offsets).clamp_max(1)


def symbols(scenes: list[Scene], patches: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """List the words that are true of each patch.

    The first four are the thing's (or `background` alone), then come its part, its middle, and the
    place, time and style of the whole scene.

    Args:
        scenes: B scenes.
        patches: (B, 3, 12, 12), see `data.patch_labels`.

    Returns:
        Word ids (B, 144, 9) and their weights; the weight of an unused column is 0.
    """
    vocabulary = token_ids()
    word_ids = np.zeros((len(scenes), IMAGE_TOKENS, WORDS_A_PATCH), dtype=np.int64)
    weights = np.zeros(word_ids.shape, dtype=np.float32)
    parts = np.asarray([0, *(vocabulary[name] for name in part_names())])
    for row, scene in enumerate(scenes):
        seen, part, middle = patches[row].reshape(3, -1)
        # Background is overwritten where a thing is seen.
        word_ids[row, :, 0] = vocabulary["background"]
        weights[row, :, 0] = BACKGROUND_WEIGHT
        for index, thing in enumerate(scene.things):
            inside = seen == index + 1
            for column, (name, weight) in enumerate(THING_WEIGHTS.items()):
                word_ids[row, inside, column] = vocabulary[getattr(thing, name)]
                weights[row, inside, column] = weight
        # Columns that say nothing of a patch keep a word but get no weight.
        word_ids[row, :, 4] = parts[part]
        weights[row, :, 4] = PART_WEIGHT * (part > 0)
        word_ids[row, :, 5] = vocabulary["object"]
        weights[row, :, 5] = MIDDLE_WEIGHT * (middle > 0)
        for column, word in enumerate((scene.setting, scene.time, scene.style), start=6):
            word_ids[row, :, column] = vocabulary[word]
            weights[row, :, column] = SCENE_WEIGHT
    return torch.from_numpy(word_ids), torch.from_numpy(weights)


def spread_opposites(table: Tensor, seed: int, distance: float = 3.2) -> None:
    """Push left and right, and top and bottom, apart in the embeddings (words, dim), in place.

    As long as a model answers either of the two at random, training draws them together, until
    grids hardly tell them apart. The direction is random.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = token_ids()
    with torch.no_grad():
        for first, second in HALVES:
            direction = torch.randn(table.shape[1], generator=generator)
            step = direction / direction.norm() * distance / 2
            table[ids[first]] += step
            table[ids[second]] -= step


def symbolic_grid(
    table: Tensor, word_ids: Tensor, weights: Tensor, patches: Tensor | None = None
) -> Tensor:
    """Sum the embeddings of each patch's words, and of its position.

    Args:
        table: Embeddings (words, dim).
        word_ids: (B, 144, 9), see `symbols`.
        weights: The weights of the words, of the same shape.
        patches: Indices (B, n) of the patches to sum; by default all.

    Returns:
        Image tokens (B, 144, dim) or (B, n, dim).
    """
    ids = token_ids()
    sides = table[torch.tensor([ids[name] for name in ("left", "right", "top", "bottom")])]
    positions = _positions()
    if patches is not None:
        rows = torch.arange(len(word_ids))[:, None]
        word_ids = word_ids[rows, patches]
        weights = weights[rows, patches]
        positions = positions[patches]
    # How far a patch is to the left is said by that much of the embedding of `left`.
    summed = torch.einsum("bpw,bpwd->bpd", weights, table[word_ids])
    return summed + positions @ sides


def few_patches(rng: np.random.Generator, patches: npt.NDArray[np.uint8], count: int) -> Tensor:
    """Choose few patches of each grid: one of every thing, the rest background, shuffled.

    A thing's patch is its middle, where that can be seen. Over so few tokens even untrained
    attention gives each thing a share, which is what matching starts from.

    Args:
        rng: The random stream.
        patches: (B, 3, 12, 12), see `data.patch_labels`.
        count: The number of patches.

    Returns:
        Patch indices (B, count).
    """
    indices = np.zeros((len(patches), count), dtype=np.int64)
    for row, (seen, _, middle) in enumerate(patches.reshape(len(patches), 3, -1)):
        thing_patches: list[int] = []
        for index in range(1, int(seen.max(initial=0)) + 1):
            # The middle of a thing may be hidden: then any patch that shows it.
            spots = np.flatnonzero((seen == index) & (middle == index))
            spots = spots if len(spots) else np.flatnonzero(seen == index)
            if len(spots):
                thing_patches.append(int(rng.choice(spots)))
        empty = np.flatnonzero(seen == 0)
        selection = [*thing_patches[:count], *rng.choice(empty, size=count)][:count]
        indices[row] = rng.permutation(selection)
    return torch.from_numpy(indices)


def blurred(rng: np.random.Generator, weights: Tensor, strength: float) -> Tensor:
    """Change weights to what a real tower might give: words are fainter by chance, some missing."""
    shape = tuple(weights.shape)
    fading = torch.from_numpy(rng.uniform(1 - 0.6 * strength, 1, size=shape).astype(np.float32))
    presence = torch.from_numpy((rng.random(shape) > 0.12 * strength).astype(np.float32))
    return weights * fading * presence

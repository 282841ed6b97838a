"""Scenes for the training of adapters: their exchanges, features, and the words of their patches.

What a picture shows is said from top to bottom, in the order of its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from PIL import Image

from kvtool.adapters.examples import Exchange
from kvtool.adapters.starts import BACKGROUND, word_embedding
from kvtool.demo.language import look, with_article
from kvtool.demo.questions import questions
from kvtool.demo.training.data import Bytes, Collection
from kvtool.demo.training.symbols import symbolic_grid, symbols
from kvtool.demo.world import COLORS, Scene, categories
from kvtool.models.families.linear_adapter import LinearAdapter, pooled

WHAT = "What is in the picture?"
LIST = "List the things from left to right."
"""What the demo's decoder has learned to answer with colors and categories alone."""
CAPTION_QUESTIONS = (WHAT, "Describe the image.", "What does this image show?")
QUESTION_KINDS = ("existence", "color", "color_yes_no")
"""The kinds of questions beside captions."""
QUESTION_CHANCE = 0.4
"""How many questions a caption has beside it."""
DEMO_QUESTIONS = 6
"""Questions of a scene for the demo's decoder, which has read 23 kinds of them."""
BATCH = 64
THING_WEIGHT = 5.0
"""Things fill a fifth of the patches and matter most."""


def short_caption(scene: Scene) -> str:
    """Say what things there are, and their colors, from top to bottom."""
    things = sorted(scene.things, key=lambda thing: thing.center_xy_px[::-1])
    phrases = [with_article(look(thing, size=False, texture=False)) for thing in things]
    listed = " and ".join([", ".join(phrases[:-1])] * (len(phrases) > 1) + phrases[-1:])
    return f"{listed[0].upper()}{listed[1:]}."


def scene_exchanges(scenes: Sequence[Scene], seed: int) -> list[Exchange]:
    """Return a caption of each scene, and of some a question."""
    exchanges = []
    for index, scene in enumerate(scenes):
        rng = np.random.default_rng((seed, index))
        request = CAPTION_QUESTIONS[0 if rng.random() < 0.5 else rng.integers(1, 3)]
        exchanges.append(Exchange(index, request, short_caption(scene)))
        if rng.random() < QUESTION_CHANCE:
            kind = QUESTION_KINDS[rng.integers(len(QUESTION_KINDS))]
            exchanges += [
                Exchange(index, question.text, question.answer.capitalize())
                for question in questions(scene, rng, [kind])
            ]
    return exchanges


def plain_captions(scenes: Sequence[Scene], seed: int) -> list[Exchange]:  # noqa: ARG001
    """Return a caption of each scene, drafts for in one way."""
    return [Exchange(row, WHAT, short_caption(scene)) for row, scene in enumerate(scenes)]


def demo_exchanges(scenes: Sequence[Scene], seed: int) -> list[Exchange]:
    """Return a few of all questions that the demo model was trained on, of each scene."""
    exchanges = []
    for index, scene in enumerate(scenes):
        rng = np.random.default_rng((seed, index))
        drafts = questions(scene, rng)
        order = rng.permutation(len(drafts))[:DEMO_QUESTIONS].tolist()
        exchanges += [Exchange(index, drafts[i].text, drafts[i].answer) for i in order]
    return exchanges


def features(model: LinearAdapter, images: Bytes) -> torch.Tensor:
    """Return what the layer reads of images (n, height, width, 3), (n, token, d) in bfloat16."""
    parts = []
    for first in range(0, len(images), BATCH):
        batch = [
            model.tower.prepare(Image.fromarray(pixels), id=str(first + index), index=index)
            for index, pixels in enumerate(images[first : first + BATCH])
        ]
        with torch.no_grad():
            parts.append(model.features(batch).to(torch.bfloat16).cpu())
    return torch.cat(parts)


def scenes_of(collection: Collection) -> list[Scene]:
    """Return the scenes of a collection of drawings."""
    return [cast(Scene, item) for item in collection.items]


def demo_symbols(
    model: LinearAdapter, scenes: Sequence[Scene], patches: Bytes
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the symbolic grid that the demo's decoder learned to read, and what each token counts;
    see patch_words.
    """
    with torch.no_grad():
        table = model.net.get_input_embeddings().weight.float()
        word_ids, weights = symbols(list(scenes), patches)
        targets = symbolic_grid(table, word_ids, weights)
    counts = torch.where(word_ids[:, :, 1] > 0, THING_WEIGHT, 1.0)
    return targets, counts


def patch_words(
    model: LinearAdapter, scenes: Sequence[Scene], patches: Bytes
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the word embeddings for what each token shows, (image, token, d_language), and what
    the token counts, (image, token).

    A thing is the sum of the embeddings of its category and its color.

    Args:
        model: The model whose embeddings are taken.
        scenes: Scenes.
        patches: What patches show, (image, 3, rows, columns), see data.patch_labels.
    """
    vectors = {word: word_embedding(model, word) for word in (*categories(), *COLORS, BACKGROUND)}
    targets = []
    for scene, seen in zip(scenes, patches[:, 0], strict=True):
        # Label 0 is background, and n the scene's n-th thing.
        rows = [vectors[BACKGROUND]]
        rows += [vectors[thing.category] + vectors[thing.color] for thing in scene.things]
        targets.append(torch.stack(rows)[torch.from_numpy(seen.astype(np.int64)).flatten()])
    grid = patches.shape[2], patches.shape[3]
    shows_thing = torch.from_numpy(patches[:, 0] > 0).flatten(1)[..., None]
    # A pooled token counts more by the share of its patches that show a thing.
    weights = 1 + (THING_WEIGHT - 1) * pooled(shows_thing, grid, model.adapter.pool)[..., 0]
    return pooled(torch.stack(targets), grid, model.adapter.pool), weights

"""What an adapter's model says of scenes that it was not trained on, beside the truth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from PIL import Image

from kvtool.adapters.examples import Exchange, examples
from kvtool.adapters.training import mean_loss
from kvtool.demo.questions import questions
from kvtool.demo.training.data import Bytes, Collection
from kvtool.adapters.shipped.scenes import WHAT, features, scenes_of, short_caption
from kvtool.demo.world import COLORS, Scene, categories
from kvtool.models.families.linear_adapter import LinearAdapter

BATCH = 16
ANSWER_TOKENS = 60
ASKED = ("existence", "color", "color_yes_no", "count_things")


@dataclass(frozen=True)
class WordScores:
    """How well captions name what is in their pictures.

    Attributes:
        named: The share of things whose category is named.
        true: The share of named categories that are in the picture.
        colors: The share of things whose category is named that are given their color, too.
    """

    named: float
    true: float
    colors: float


def word_scores(captions: Sequence[str], scenes: Sequence[Scene]) -> WordScores:
    """Compare the things that captions name with those of scenes, of which one may have several of
    a category.
    """
    n_things = n_named = n_right = n_colored = 0
    for text, scene in zip(captions, scenes, strict=True):
        truth = Counter((thing.color, thing.category) for thing in scene.things)
        named = Counter(named_things(text))
        n_things += truth.total()
        n_named += named.total()
        n_right += (_categories(truth) & _categories(named)).total()
        n_colored += (truth & named).total()
    return WordScores(
        n_right / n_things, n_right / max(1, n_named), n_colored / max(1, n_right)
    )


def _categories(things: Counter[tuple[str, str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for (_, category), count in things.items():
        counts[category] += count
    return counts


def named_things(text: str) -> list[tuple[str, str]]:
    """Return the (color, category) that a text names; the color is empty where there is none."""
    words = re.findall(r"[a-z]+", text.lower())
    names = set(categories())
    return [
        (before if before in COLORS else "", word)
        for before, word in zip(["", *words], words, strict=False)
        if word in names
    ]


def captions_of(model: LinearAdapter, images: Bytes, question: str = WHAT) -> list[str]:
    """Return what the model answers to one question on each image."""
    captions = []
    for first in range(0, len(images), BATCH):
        batch = [
            model.prepare(Image.fromarray(pixels), id=str(first + index), index=index)
            for index, pixels in enumerate(images[first : first + BATCH])
        ]
        samples = [item.sample for item in batch]
        cache = model.prefill(batch)
        answers = model.generate(cache, samples, model.question(question), ANSWER_TOKENS)
        captions += [answer or "" for answer in answers]
    return captions


def accuracies(model: LinearAdapter, held_out: Collection, per_kind: int) -> dict[str, float]:
    """Return the share of questions of each kind that are answered right."""
    scenes = scenes_of(held_out)
    shares = {}
    for kind in ASKED:
        asked = []
        for index, scene in enumerate(scenes):
            drafts = questions(scene, np.random.default_rng((5, index)), [kind])
            asked += [(index, draft) for draft in drafts]
        asked = asked[:per_kind]
        right = 0
        # Only texts of equal length run together.
        lengths = [len(model.prompt.text_ids(model.question(draft.text))) for _, draft in asked]
        order = sorted(range(len(asked)), key=lengths.__getitem__)
        for _, group in groupby(order, key=lengths.__getitem__):
            chosen = [asked[index] for index in group]
            batch = [
                model.prepare(Image.fromarray(held_out.images[image]), id=str(image), index=image)
                for image, _ in chosen
            ]
            samples = [item.sample for item in batch]
            texts = [model.question(draft.text) for _, draft in chosen]
            answers = model.generate(model.prefill(batch), samples, texts, 8)
            right += sum(
                (answer or "").lower().strip(" .") == draft.answer.lower()
                for answer, (_, draft) in zip(answers, chosen, strict=True)
            )
        shares[kind] = right / len(asked)
    return shares


def figures(model: LinearAdapter, held_out: Collection, per_kind: int = 200) -> dict[str, Any]:
    """Return all figures of a model card; those ending in _other are of another scene's picture."""
    scenes = scenes_of(held_out)
    tokens = features(model, held_out.images)
    exchanges = [Exchange(row, WHAT, short_caption(scene)) for row, scene in enumerate(scenes)]
    laid_out = examples(model, exchanges)
    layer = {"weight": model.linear.weight, "bias": model.linear.bias}
    captions = captions_of(model, held_out.images)
    own = word_scores(captions, scenes)
    other = word_scores(captions[1:] + captions[:1], scenes)
    return {
        "scenes": len(scenes),
        "loss": mean_loss(model, layer, tokens, laid_out),
        "loss_other": mean_loss(model, layer, torch.roll(tokens, 1, dims=0), laid_out),
        "named": own.named,
        "true": own.true,
        "colors": own.colors,
        "named_other": other.named,
        "true_other": other.true,
        "colors_other": other.colors,
        "questions": accuracies(model, held_out, per_kind),
        "examples": [
            {"truth": short_caption(scene), "answer": caption}
            for scene, caption in list(zip(scenes, captions, strict=True))[:8]
        ],
    }

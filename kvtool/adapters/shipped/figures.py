"""What an adapter's model says of scenes that it was not trained on, beside the truth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from PIL import Image

from kvtool.adapters.examples import Exchange, examples
from kvtool.adapters.reading import AnswerScores, answer_scores
from kvtool.adapters.shipped.scenes import features, scenes_of, short_caption
from kvtool.demo.questions import questions
from kvtool.demo.training.data import Bytes, Collection
from kvtool.demo.world import COLORS, Scene, categories
from kvtool.models.families.linear_adapter import LinearAdapter

BATCH = 16
CAPTION_TOKENS = 60
SHORT_TOKENS = 8
N_CAPTIONS = 6
"""So many captions stand in a card."""
QUESTION_KINDS = ("existence", "color", "color_yes_no")


@dataclass(frozen=True)
class WordScores:
    """How well captions name what is in their pictures.

    Attributes:
        recall: The share of things whose category is named.
        precision: The share of named categories that are in the picture.
        colors: The share of things whose category is named that are given their color, too.
    """

    recall: float
    precision: float
    colors: float


@dataclass(frozen=True)
class Accuracy:
    """How many questions of a kind are answered right."""

    kind: str
    n_right: int
    n: int


@dataclass(frozen=True)
class Figures:
    """All figures of a card.

    Attributes:
        n_scenes: Scenes that were held out.
        n_exam: Questions about them, whose answers are scored token by token.
        scores: The scores of these answers.
        swapped: The same behind another scene's picture.
        words: How well the model's captions name things.
        words_swapped: The same against another scene.
        questions: Questions that the model answered by itself.
        captions: What is in some scenes, and what the model says.
    """

    n_scenes: int
    n_exam: int
    scores: AnswerScores
    swapped: AnswerScores
    words: WordScores
    words_swapped: WordScores
    questions: tuple[Accuracy, ...]
    captions: tuple[tuple[str, str], ...]


def word_scores(captions: Sequence[str], scenes: Sequence[Scene]) -> WordScores:
    """Compare the things that captions name with those of scenes, of which one may have several of
    a category.
    """
    n_things = n_named = n_right = n_colored = 0
    for text, scene in zip(captions, scenes, strict=True):
        # Multisets: of two crabs a caption that names one has named one.
        truth = Counter((thing.color, thing.category) for thing in scene.things)
        text_things = Counter(named_things(text))
        n_things += truth.total()
        n_named += text_things.total()
        n_right += (_categories(truth) & _categories(text_things)).total()
        n_colored += (truth & text_things).total()
    return WordScores(n_right / n_things, n_right / max(1, n_named), n_colored / max(1, n_right))


def _categories(things: Counter[tuple[str, str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for (_, category), count in things.items():
        counts[category] += count
    return counts


def named_things(text: str) -> list[tuple[str, str]]:
    """Return the (color, category) that a text names; the color is empty where there is none."""
    words = re.findall(r"[a-z]+", text.lower())
    names = set(categories())
    # Each word with the one before it, which may be its color.
    return [
        (before if before in COLORS else "", word)
        for before, word in zip(["", *words], words, strict=False)
        if word in names
    ]


def answers_to(
    model: LinearAdapter, images: Bytes, texts: Sequence[str], n_tokens: int
) -> list[str]:
    """Return what the model answers to a text of one length behind each image."""
    answers: list[str] = []
    for first in range(0, len(images), BATCH):
        batch = [
            model.prepare(Image.fromarray(pixels), id=str(first + index), index=index)
            for index, pixels in enumerate(images[first : first + BATCH])
        ]
        samples = [item.sample for item in batch]
        batch_texts = list(texts[first : first + BATCH])
        generated = model.generate(model.prefill(batch), samples, batch_texts, n_tokens)
        answers += [answer or "" for answer in generated]
    return answers


def answered_right(model: LinearAdapter, held_out: Collection, kind: str, limit: int) -> Accuracy:
    """Return how many questions of a kind are answered right, on the first scenes that allow it."""
    exchanges: list[Exchange] = []
    for row, scene in enumerate(scenes_of(held_out)):
        # A question depends on the scene's place and on its kind alone.
        drafts = questions(scene, np.random.default_rng((row, len(kind))), [kind])
        exchanges += [Exchange(row, draft.text, draft.answer) for draft in drafts]
    exchanges = exchanges[:limit]
    texts = [model.question(exchange.question) for exchange in exchanges]
    lengths = [len(model.prompt.text_ids(text)) for text in texts]
    # Texts of equal length run together.
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    n_right = 0
    for _, group in groupby(order, key=lengths.__getitem__):
        indices = list(group)
        images = held_out.images[[exchanges[index].image for index in indices]]
        answers = answers_to(model, images, [texts[index] for index in indices], SHORT_TOKENS)
        truth = [exchanges[index].answer for index in indices]
        n_right += sum(map(_agree, answers, truth))
    return Accuracy(kind, n_right, len(exchanges))


def _agree(answer: str, truth: str) -> bool:
    return answer.lower().strip(" .") == truth.lower()


def figures(
    model: LinearAdapter,
    held_out: Collection,
    exam: Sequence[Exchange],
    request: str,
    per_kind: int = 200,
) -> Figures:
    """Return what a model's card says.

    Args:
        model: The adapter's model.
        held_out: Scenes that it was not trained on.
        exam: Questions about them, and the answers.
        request: What captions are asked for by.
        per_kind: Questions of a kind that are asked.
    """
    scenes = scenes_of(held_out)
    # Once for both scores: the control rolls them to another scene's answers.
    tokens = features(model, held_out.images)
    laid_out = examples(model, exam)
    layer = {"weight": model.linear.weight, "bias": model.linear.bias}
    text = model.question(request)
    captions = answers_to(model, held_out.images, [text] * len(scenes), CAPTION_TOKENS)
    return Figures(
        n_scenes=len(scenes),
        n_exam=len(exam),
        scores=answer_scores(model, layer, tokens, laid_out),
        swapped=answer_scores(model, layer, torch.roll(tokens, 1, dims=0), laid_out),
        words=word_scores(captions, scenes),
        # The control: captions of the next scene's picture.
        words_swapped=word_scores(captions[1:] + captions[:1], scenes),
        questions=tuple(answered_right(model, held_out, kind, per_kind) for kind in QUESTION_KINDS),
        captions=tuple(
            zip(map(short_caption, scenes[:N_CAPTIONS]), captions[:N_CAPTIONS], strict=True)
        ),
    )

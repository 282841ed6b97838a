"""What the shipped model answers about unseen scenes: greedy generation by transformers, in the shipped data type."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoImageProcessor, AutoTokenizer, LlavaOnevisionForConditionalGeneration

from kvtool.demo.compare import corresponding_point, most_similar, same_style
from kvtool.demo.draw import sample_rendered
from kvtool.demo.questions import KINDS, SceneQuestion, existence_question
from kvtool.demo.training.config import IMAGE_TOKENS
from kvtool.demo.world import Scene, categories

EVALUATION_SEED = 987_654_321
BATCH = 32
TARGETS = {
    "existence_f1": 0.85,
    "color": 0.90,
    "count": 0.80,
    "left_right": 0.90,
    "top_bottom": 0.90,
}
KINDS_OF: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "color": (("color",), ("color",)),
    "count": (("count",), ("count",)),
    "left_right": (("relation", "side"), ("relation_left_right", "side_left_right")),
    "top_bottom": (("relation", "side"), ("relation_above_below", "side_top_bottom")),
    "left_right_yes_no": (("relation_yes_no",), ("left_right_yes_no",)),
    "above_below_yes_no": (("relation_yes_no",), ("above_below_yes_no",)),
    "side_yes_no": (("side",), ("side_yes_no",)),
    "left_right_choice": (("relation_choice",), ("left_right_choice",)),
    "above_below_choice": (("relation_choice",), ("above_below_choice",)),
    "count_choice": (("count_choice",), ("count_choice",)),
    "color_yes_no": (("color_yes_no",), ("color_yes_no",)),
    "texture": (("texture",), ("texture",)),
    "place": (("place",), ("place",)),
    "time": (("time",), ("time",)),
}
"""Figure -> (keys of `questions.KINDS` that ask, kinds of question that count)."""


@dataclass(frozen=True)
class Figure:
    """One figure of the card: `value` with its 95 % interval over `n` questions."""

    name: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ExamQuestion:
    """Images (H, W, 3) of a prompt, its question, and the answer expected."""

    images: tuple[npt.NDArray[np.uint8], ...]
    text: str
    answer: str
    kind: str


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson's score)."""
    z, share = 1.96, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def f1_interval(pairs: list[tuple[bool, bool]], draws: int = 2000) -> tuple[float, float, float]:
    """F1 of (said yes, is yes) with a percentile bootstrap over questions."""
    table = np.asarray(pairs, dtype=np.int64)
    cells = np.bincount(2 * table[:, 0] + table[:, 1], minlength=4)
    resampled = np.random.default_rng(0).multinomial(len(table), cells / len(table), size=draws)
    scores = (
        2 * resampled[:, 3] / np.maximum(1, 2 * resampled[:, 3] + resampled[:, 2] + resampled[:, 1])
    )
    value = 2 * cells[3] / max(1, 2 * cells[3] + cells[2] + cells[1])
    return float(value), float(np.quantile(scores, 0.025)), float(np.quantile(scores, 0.975))


class Examiner:
    """Base views, ChatML prompt, greedy answers. Prompts of equal length are batched, never padded."""

    def __init__(self, folder: Path):
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.processor: Any = cast(Any, AutoImageProcessor).from_pretrained(folder)
        self.model: Any = LlavaOnevisionForConditionalGeneration.from_pretrained(
            folder, dtype=torch.bfloat16
        )

    def ids(self, asked: ExamQuestion) -> tuple[int, ...]:
        content = [{"type": "image"} for _ in asked.images] + [{"type": "text", "text": asked.text}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return tuple(
            self.tokenizer(text.replace("<image>", "<image>" * (IMAGE_TOKENS + 1)))["input_ids"]
        )

    def answers(self, questions: list[ExamQuestion]) -> list[str]:
        """The generated texts, in the order of the questions."""
        prompts = [self.ids(asked) for asked in questions]
        order = sorted(range(len(questions)), key=lambda index: len(prompts[index]))
        found = [""] * len(questions)
        while order:
            length = len(prompts[order[0]])
            batch = [index for index in order[:BATCH] if len(prompts[index]) == length]
            order = order[len(batch) :]
            for index, text in zip(batch, self._generate(batch, prompts, questions), strict=True):
                found[index] = text.strip()
        return found

    @torch.inference_mode()
    def _generate(
        self, batch: list[int], prompts: list[tuple[int, ...]], questions: list[ExamQuestion]
    ) -> list[str]:
        images = [image for index in batch for image in questions[index].images]
        views = [
            self.processor(images=image, return_tensors="pt")["pixel_values"][0, :1]
            for image in images
        ]
        # More than one image "in a sample" is how transformers is told to use base views alone.
        views, count = (views * 2, 2) if len(views) == 1 else (views, len(views))
        features = self.model.model.get_image_features(
            torch.stack(views).to(torch.bfloat16),
            image_sizes=torch.tensor([[96, 96]] * count),
            batch_num_images=torch.tensor([count]),
            return_dict=True,
        ).pooler_output[: len(images)]
        ids = torch.tensor([prompts[index] for index in batch])
        x = self.model.get_input_embeddings()(ids)
        at_image = (ids == self.model.config.image_token_id)[..., None]
        x = x.masked_scatter(at_image, torch.cat(list(features)).to(x.dtype))
        output = self.model.generate(
            inputs_embeds=x, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
        )
        texts: list[str] = self.tokenizer.batch_decode(output, skip_special_tokens=True)
        return texts


def existence_questions(count: int, rng: np.random.Generator) -> list[ExamQuestion]:
    """As POPE asks: per scene one yes, and one no that is random, popular or adversarial in turn.

    Popular: absent and frequent over all scenes. Adversarial: absent and often seen beside what is there.
    """
    scenes = [sample_rendered(rng) for _ in range(count // 2)]
    frequent = Counter(thing.category for scene, _ in scenes for thing in scene.things)
    beside: dict[str, Counter[str]] = {name: Counter() for name in categories()}
    for scene, _ in scenes:
        here = {thing.category for thing in scene.things}
        for name in here:
            beside[name].update(here - {name})
    asked = []
    for index, (scene, rendered) in enumerate(scenes):
        here = {thing.category for thing in scene.things}
        absent = [name for name in categories() if name not in here]
        near: Counter[str] = sum((beside[name] for name in here), Counter())
        score = (Counter[str](), frequent, near)[index % 3]
        ranked = sorted(absent, key=lambda name, score=score: score[name], reverse=True)  # type: ignore[misc]
        missing = ranked[rng.integers(len(ranked) if index % 3 == 0 else 3)]
        present = sorted(here)[rng.integers(len(here))]
        for name, truth in ((present, True), (missing, False)):
            question = existence_question(name, truth)
            asked.append(
                ExamQuestion((rendered.image,), question.text, question.answer, "existence")
            )
    return asked


def questions_of(
    kinds: tuple[str, ...], makers: tuple[str, ...], count: int, rng: np.random.Generator
) -> Iterator[ExamQuestion]:
    """`count` questions of the kinds, one a scene."""
    while count:
        scene, rendered = sample_rendered(rng)
        question = _one_of(scene, kinds, makers, rng)
        if question:
            count -= 1
            yield ExamQuestion((rendered.image,), question.text, question.answer, question.kind)


def _one_of(
    scene: Scene, kinds: tuple[str, ...], makers: tuple[str, ...], rng: np.random.Generator
) -> SceneQuestion | None:
    question = KINDS[makers[rng.integers(len(makers))]](scene, rng)
    return question if question and question.kind in kinds else None


def balanced_counts(count: int, rng: np.random.Generator) -> Iterator[ExamQuestion]:
    """How many of a category, one to four equally often, with up to two other things beside them."""
    for index in range(count):
        number = index % 4 + 1
        name, *others = (
            categories()[int(i)]
            for i in rng.permutation(len(categories()))[: 1 + int(rng.integers(0, 5 - number))]
        )
        names = [name] * number + others
        scene, rendered = sample_rendered(
            rng, categories=[names[int(i)] for i in rng.permutation(len(names))]
        )
        question = None
        while question is None or question.text != _count_text(name):
            question = KINDS["count"](scene, rng)
        yield ExamQuestion((rendered.image,), question.text, question.answer, "count")


def _count_text(name: str) -> str:
    from kvtool.demo.language import plural

    return f"How many {plural(name)} are there in the image?"


def evaluate(folder: Path, count: int = 1000, several_images: bool = True) -> list[Figure]:
    """All figures of the card, on scenes that no training run has drawn."""
    answerer, figures = Examiner(folder), []
    asked = existence_questions(2 * count, np.random.default_rng((EVALUATION_SEED, 0)))
    said = answerer.answers(asked)
    pairs = [
        (text == "yes", question.answer == "yes")
        for text, question in zip(said, asked, strict=True)
    ]
    figures.append(Figure("existence_f1", *f1_interval(pairs), len(pairs)))
    figures.append(_accuracy("existence", [one == other for one, other in pairs]))
    for index, (name, (makers, kinds)) in enumerate(KINDS_OF.items(), start=1):
        rng = np.random.default_rng((EVALUATION_SEED, index))
        asked_of = count if name in TARGETS else max(2, count // 2)
        drawn = (
            balanced_counts(count, rng)
            if name == "count"
            else questions_of(kinds, makers, asked_of, rng)
        )
        asked = list(drawn)
        right = [
            text == question.answer
            for text, question in zip(answerer.answers(asked), asked, strict=True)
        ]
        figures.append(_accuracy(name, right))
        for kind in kinds if len(kinds) > 1 else ():
            chosen = [
                ok for ok, question in zip(right, asked, strict=True) if question.kind == kind
            ]
            figures.extend([_accuracy(kind, chosen)] if chosen else [])
    for index, compare in enumerate(
        (same_style, most_similar, corresponding_point) if several_images else ()
    ):
        rng = np.random.default_rng((EVALUATION_SEED, 100 + index))
        compared = [compare(rng) for _ in range(max(2, count // 2))]
        asked = [ExamQuestion(one.images, one.text, one.answer, one.kind) for one in compared]
        said = answerer.answers(asked)
        figures.append(
            _accuracy(
                asked[0].kind, [text == one.answer for text, one in zip(said, asked, strict=True)]
            )
        )
    return figures


def _accuracy(name: str, right: list[bool]) -> Figure:
    return Figure(name, sum(right) / len(right), *wilson(sum(right), len(right)), len(right))


def save_figures(figures: list[Figure], path: Path) -> None:
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")

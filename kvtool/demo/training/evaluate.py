"""What the shipped model answers about unseen scenes.

Answers are generated greedily by transformers, in the shipped data type.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoTokenizer, LlavaOnevisionForConditionalGeneration

from kvtool.demo.compare import corresponding_point, most_similar, same_style
from kvtool.demo.training.config import IMAGE_TOKENS
from kvtool.demo.training.exam import (
    ExamQuestion,
    balanced_counts,
    existence_questions,
    questions_of,
)
from kvtool.models.linear_layers import multiply_in_single_precision
from kvtool.stats.proportions import wilson

SEED = 987_654_321
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
"""Figure -> (keys of `questions.KINDS` that ask, kinds of questions that count)."""


@dataclass(frozen=True)
class Figure:
    """One figure of the card: `value` with its 95 % interval over `n` questions."""

    name: str
    value: float
    low: float
    high: float
    n: int


def f1_interval(pairs: list[tuple[bool, bool]], draws: int = 2000) -> tuple[float, float, float]:
    """Compute F1 of pairs (answered yes, is yes).

    Returns:
        F1 and its 95 % interval, from a percentile bootstrap over questions.
    """
    table = np.asarray(pairs, dtype=np.int64)
    cells = np.bincount(2 * table[:, 0] + table[:, 1], minlength=4)
    resampled = np.random.default_rng(0).multinomial(len(table), cells / len(table), size=draws)
    twice_hits = 2 * resampled[:, 3]
    scores = twice_hits / np.maximum(1, twice_hits + resampled[:, 2] + resampled[:, 1])
    value = 2 * cells[3] / max(1, 2 * cells[3] + cells[2] + cells[1])
    return float(value), float(np.quantile(scores, 0.025)), float(np.quantile(scores, 0.975))


class Examiner:
    """Asks the model in a folder: base views, ChatML prompt, greedy answers.

    Prompts of equal length are batched, never padded.
    """

    def __init__(self, folder: Path):
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.processor: Any = cast(Any, AutoImageProcessor).from_pretrained(folder)
        self.model: Any = LlavaOnevisionForConditionalGeneration.from_pretrained(
            folder, dtype=torch.bfloat16
        )
        multiply_in_single_precision(self.model)

    def ids(self, question: ExamQuestion) -> tuple[int, ...]:
        """Return the token ids of a question's prompt."""
        content = [{"type": "image"} for _ in question.images]
        content.append({"type": "text", "text": question.text})
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        text = text.replace("<image>", "<image>" * (IMAGE_TOKENS + 1))
        return tuple(self.tokenizer(text)["input_ids"])

    def answers(self, questions: list[ExamQuestion]) -> list[str]:
        """Return the generated texts, in the order of the questions."""
        prompts = [self.ids(question) for question in questions]
        # Prompts of one length need no padding: they are answered together.
        order = sorted(range(len(questions)), key=lambda index: len(prompts[index]))
        texts = [""] * len(questions)
        while order:
            length = len(prompts[order[0]])
            batch = [index for index in order[:BATCH] if len(prompts[index]) == length]
            order = order[len(batch) :]
            for index, text in zip(batch, self._generate(batch, prompts, questions), strict=True):
                texts[index] = text.strip()
        return texts

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
        # Image features take the place of the image marks, as the model itself does it.
        ids = torch.tensor([prompts[index] for index in batch])
        x = self.model.get_input_embeddings()(ids)
        at_image = (ids == self.model.config.image_token_id)[..., None]
        x = x.masked_scatter(at_image, torch.cat(list(features)).to(x.dtype))
        output = self.model.generate(
            inputs_embeds=x, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
        )
        texts: list[str] = self.tokenizer.batch_decode(output, skip_special_tokens=True)
        return texts


def evaluate(folder: Path, count: int = 1000, several_images: bool = True) -> list[Figure]:
    """Compute all figures of the card, on scenes that no training run has drawn.

    Args:
        folder: The exported model.
        count: The number of questions of a figure with a target; others have half of them.
        several_images: Whether the questions over several images are asked too.
    """
    examiner = Examiner(folder)
    figures = _existence_figures(examiner, count)
    # Each figure has its own stream: a change of one moves no other.
    for index, name in enumerate(KINDS_OF, start=1):
        figures += _kind_figures(examiner, name, count, np.random.default_rng((SEED, index)))
    comparisons = (same_style, most_similar, corresponding_point) if several_images else ()
    for index, compare in enumerate(comparisons, start=100):
        rng = np.random.default_rng((SEED, index))
        questions = []
        for _ in range(max(2, count // 2)):
            pair = compare(rng)
            questions.append(ExamQuestion(pair.images, pair.text, pair.answer, pair.kind))
        figures.append(_accuracy(questions[0].kind, _right(examiner, questions)))
    return figures


def _existence_figures(examiner: Examiner, count: int) -> list[Figure]:
    questions = existence_questions(2 * count, np.random.default_rng((SEED, 0)))
    answers = examiner.answers(questions)
    pairs = [
        (text == "yes", question.answer == "yes")
        for text, question in zip(answers, questions, strict=True)
    ]
    f1 = Figure("existence_f1", *f1_interval(pairs), len(pairs))
    return [f1, _accuracy("existence", [answer == truth for answer, truth in pairs])]


def _kind_figures(
    examiner: Examiner, name: str, count: int, rng: np.random.Generator
) -> list[Figure]:
    """Compute a figure and, where it is of several kinds of questions, the figures of each."""
    makers, kinds = KINDS_OF[name]
    if name == "count":
        questions = list(balanced_counts(count, rng))
    else:
        n_questions = count if name in TARGETS else max(2, count // 2)
        questions = list(questions_of(kinds, makers, n_questions, rng))
    right = _right(examiner, questions)
    figures = [_accuracy(name, right)]
    if len(kinds) == 1:
        return figures
    for kind in kinds:
        right_of_kind = [
            answer
            for answer, question in zip(right, questions, strict=True)
            if question.kind == kind
        ]
        if right_of_kind:
            figures.append(_accuracy(kind, right_of_kind))
    return figures


def _right(examiner: Examiner, questions: list[ExamQuestion]) -> list[bool]:
    """Ask the questions, and tell which answers are right."""
    answers = examiner.answers(questions)
    return [text == question.answer for text, question in zip(answers, questions, strict=True)]


def _accuracy(name: str, right: list[bool]) -> Figure:
    return Figure(name, sum(right) / len(right), *wilson(sum(right), len(right)), len(right))


def save_figures(figures: list[Figure], path: Path) -> None:
    """Write the figures as JSON."""
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")

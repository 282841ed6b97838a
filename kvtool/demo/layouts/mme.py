"""MME: one folder a subset (existence, count, position, color) with <image>.jpg and <image>.txt beside each other.

A text holds two lines, question TAB answer: one answered Yes, the other No.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.layouts.files import Size, save_jpeg, save_text, stream
from kvtool.demo.questions import KINDS, existence_question
from kvtool.demo.world import Scene, categories

SUBSETS = {
    "existence": "existence",
    "count": "count_yes_no",
    "position": "relation_yes_no",
    "color": "color_yes_no",
}
"""Subset -> the kind of question asked."""
N_IMAGES: dict[Size, int] = {"small": 15, "medium": 60, "large": 500}
"""Images of each subset; 24 to 30 in the benchmark itself."""


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the benchmark into the empty folder; the number of images."""
    for subset in SUBSETS:
        for index in range(N_IMAGES[size]):
            _, rendered, answers = draw_picture(seed, subset, index)
            stem = folder / subset / f"{index + 1:06d}"
            save_jpeg(stem.with_suffix(".jpg"), rendered.image)
            lines = [f"{answers[answer]}\t{answer.capitalize()}\n" for answer in ("yes", "no")]
            save_text(stem.with_suffix(".txt"), "".join(lines))
    return len(SUBSETS) * N_IMAGES[size]


def draw_picture(seed: int, subset: str, index: int) -> tuple[Scene, Rendered, dict[str, str]]:
    """A scene, its drawing, and answer -> question for both answers."""
    rng = stream(seed, "mme", subset, index)
    while True:
        scene, rendered = sample_rendered(rng)
        answers = _both_answers(scene, subset, rng)
        if len(answers) == 2:
            return scene, rendered, answers


def _both_answers(scene: Scene, subset: str, rng: np.random.Generator) -> dict[str, str]:
    """A question for each answer; fewer where the scene does not allow the kind, or chance will not have it."""
    if subset == "existence":
        here = sorted({thing.category for thing in scene.things})
        absent = [name for name in categories() if name not in here]
        asked = [
            existence_question(str(rng.choice(pool)), pool is here, wording=1)
            for pool in (here, absent)
        ]
        return {question.answer: question.text for question in asked}
    answers: dict[str, str] = {}
    for _ in range(10):
        question = KINDS[SUBSETS[subset]](scene, rng)
        # Where no color is left to deny, that kind of question turns into one of existence.
        if question is not None and question.kind != "existence":
            answers.setdefault(question.answer, question.text)
    return answers

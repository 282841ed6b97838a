"""The layout of MME: <subset>/<image>.jpg and <subset>/<image>.txt.

The subsets are existence, count, position and color. A text holds two lines, question TAB answer:
the answer to one is Yes, to the other No.
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
"""Subset -> the kind of its questions."""
N_IMAGES: dict[Size, int] = {"small": 15, "medium": 60, "large": 500}
"""The number of images of each subset; the benchmark itself has 24 to 30."""


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the benchmark into the empty folder, and return the number of images."""
    for subset in SUBSETS:
        for index in range(N_IMAGES[size]):
            _, rendered, answers = draw_picture(seed, subset, index)
            stem = folder / subset / f"{index + 1:06d}"
            save_jpeg(stem.with_suffix(".jpg"), rendered.image)
            lines = [f"{answers[answer]}\t{answer.capitalize()}\n" for answer in ("yes", "no")]
            save_text(stem.with_suffix(".txt"), "".join(lines))
    return len(SUBSETS) * N_IMAGES[size]


def draw_picture(seed: int, subset: str, index: int) -> tuple[Scene, Rendered, dict[str, str]]:
    """Draw a scene; return it, its drawing, and answer -> question for both answers."""
    rng = stream(seed, "mme", subset, index)
    while True:
        scene, rendered = sample_rendered(rng)
        answers = _both_answers(scene, subset, rng)
        if len(answers) == 2:
            return scene, rendered, answers


def _both_answers(scene: Scene, subset: str, rng: np.random.Generator) -> dict[str, str]:
    """Return answer -> question; one is missing if the scene or chance does not allow it."""
    answers: dict[str, str] = {}
    if subset == "existence":
        present = sorted({thing.category for thing in scene.things})
        absent = [name for name in categories() if name not in present]
        for pool in (present, absent):
            question = existence_question(str(rng.choice(pool)), pool is present, wording=1)
            answers[question.answer] = question.text
        return answers
    # One yes and one no of the same kind: chance decides what a try gives.
    for _ in range(10):
        candidate = KINDS[SUBSETS[subset]](scene, rng)
        # Where no color is left to deny, that kind of question turns into one of existence.
        if candidate is not None and candidate.kind != "existence":
            answers.setdefault(candidate.answer, candidate.text)
    return answers

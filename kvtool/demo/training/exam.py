"""The questions of the evaluation, each with the images that its prompt shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvtool.demo.draw import sample_rendered
from kvtool.demo.language import plural
from kvtool.demo.questions import KINDS, SceneQuestion, existence_question
from kvtool.demo.world import Scene, categories


@dataclass(frozen=True)
class ExamQuestion:
    """The images (H, W, 3) of a prompt, its question, and the right answer."""

    images: tuple[npt.NDArray[np.uint8], ...]
    text: str
    answer: str
    kind: str


def existence_questions(count: int, rng: np.random.Generator) -> list[ExamQuestion]:
    """Ask as POPE does: for each scene a yes, and a no that is of another strategy each time.

    An absent category is random, or popular (frequent over all scenes), or adversarial (often seen
    beside those that are present), in turn.
    """
    drawings = [sample_rendered(rng) for _ in range(count // 2)]
    # How often each category is seen, and beside which others.
    frequent = Counter(thing.category for scene, _ in drawings for thing in scene.things)
    beside: dict[str, Counter[str]] = {name: Counter() for name in categories()}
    for scene, _ in drawings:
        present = {thing.category for thing in scene.things}
        for name in present:
            beside[name].update(present - {name})
    questions = []
    for index, (scene, rendered) in enumerate(drawings):
        present = {thing.category for thing in scene.things}
        together: Counter[str] = sum((beside[name] for name in present), Counter())
        # The three strategies of POPE in turn; of the latter two one of the three likeliest.
        scores = (Counter[str](), frequent, together)[index % 3]
        absent = [name for name in categories() if name not in present]
        absent.sort(key=scores.__getitem__, reverse=True)
        absent_name = absent[rng.integers(len(absent) if index % 3 == 0 else 3)]
        present_name = sorted(present)[rng.integers(len(present))]
        for name, truth in ((present_name, True), (absent_name, False)):
            question = existence_question(name, truth)
            questions.append(
                ExamQuestion((rendered.image,), question.text, question.answer, "existence")
            )
    return questions


def questions_of(
    kinds: tuple[str, ...], makers: tuple[str, ...], count: int, rng: np.random.Generator
) -> Iterator[ExamQuestion]:
    """Ask `count` questions, one a scene.

    Args:
        kinds: The kinds of questions that count.
        makers: The keys of `questions.KINDS` that ask.
        count: The number of questions.
        rng: The random stream.
    """
    while count:
        scene, rendered = sample_rendered(rng)
        question = _question_of(scene, kinds, makers, rng)
        if question:
            count -= 1
            yield ExamQuestion((rendered.image,), question.text, question.answer, question.kind)


def _question_of(
    scene: Scene, kinds: tuple[str, ...], makers: tuple[str, ...], rng: np.random.Generator
) -> SceneQuestion | None:
    question = KINDS[makers[rng.integers(len(makers))]](scene, rng)
    return question if question and question.kind in kinds else None


def balanced_counts(count: int, rng: np.random.Generator) -> Iterator[ExamQuestion]:
    """Ask how many of a category there are, one to four equally often, beside other things."""
    for index in range(count):
        # Every count is as frequent as the others, so that guessing the common one gains nothing.
        number = index % 4 + 1
        order = rng.permutation(len(categories()))
        n_categories = 1 + int(rng.integers(0, 5 - number))
        name, *neighbors = (categories()[int(i)] for i in order[:n_categories])
        names = [name] * number + neighbors
        scene, rendered = sample_rendered(
            rng, categories=[names[int(i)] for i in rng.permutation(len(names))]
        )
        # The count of the chosen category is drawn until it comes up.
        question = None
        while question is None or question.text != _count_text(name):
            question = KINDS["count"](scene, rng)
        yield ExamQuestion((rendered.image,), question.text, question.answer, "count")


def _count_text(name: str) -> str:
    return f"How many {plural(name)} are there in the image?"

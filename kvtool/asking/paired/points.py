"""Semantic correspondence as a four-way question, in BLINK's manner, from SPair-71k's pairs.

See the paper, section 4.2. One keypoint is marked in the first picture, four in the second; one of
the four is the same part of the object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice, zip_longest
from math import dist
from pathlib import Path
from random import Random
from typing import Any

from kvtool.datasets.base import ImageRef, Question
from kvtool.datasets.images import load_image
from kvtool.datasets.spair71k import Pair
from kvtool.errors import UsageError
from kvtool.outputs import output_folder
from kvtool.pictures.marks import Point, draw_marks, place_marks, ring_radius_px

LETTERS = ("A", "B", "C", "D")
CHOICES = tuple(f"point {letter}" for letter in LETTERS)
QUESTION = (
    "There is a point called REF in the first image, and there are four points called A, B, C and "
    "D in the second image. Which point corresponds to the reference point?"
)
PROMPT = f"{QUESTION} Select from the following choices.\n" + "\n".join(
    f"({letter}) {choice}" for letter, choice in zip(LETTERS, CHOICES, strict=True)
)
DRAWING = 1
"""The version of the drawing, raised whenever the same question would look different."""
QUESTIONS = "questions.jsonl"


@dataclass(frozen=True)
class PointQuestion:
    """A pair, the keypoint marked in its source, and the four marked in its target in the order of
    their letters.

    Keypoints are indices of the pair's; `number` counts the questions from 0.
    """

    number: int
    pair: Pair
    source: int
    targets: tuple[int, ...]

    @property
    def id(self) -> str:
        """The question's id: its pair and its keypoint."""
        return f"{self.pair.id}/{self.pair.kps_ids[self.source]}"

    @property
    def right(self) -> int:
        """The index of the right choice."""
        return self.targets.index(self.source)

    @property
    def source_px(self) -> Point:
        """The marked point of the source picture."""
        return self.pair.src_kps_px[self.source]

    @property
    def targets_px(self) -> tuple[Point, ...]:
        """The marked points of the target picture, in the order of their letters."""
        return tuple(self.pair.trg_kps_px[index] for index in self.targets)

    @property
    def files(self) -> tuple[str, str]:
        """The names of its two pictures."""
        return f"{self.number:04d}-1.png", f"{self.number:04d}-2.png"

    @property
    def question(self) -> Question:
        """The question as the model is asked it."""
        return Question(
            id=self.id,
            image_ids=(self.pair.src_id, self.pair.trg_id),
            text=QUESTION,
            prompt=PROMPT,
            answer=f"({LETTERS[self.right]})",
            group="semantic-correspondence",
            choices=CHOICES,
        )

    def record(self) -> dict[str, Any]:
        """Return what is drawn: its line of QUESTIONS without the prompt."""
        return {
            "id": self.id,
            "pair": self.pair.id,
            "category": self.pair.category,
            "images": [self.pair.src_id, self.pair.trg_id],
            "files": list(self.files),
            "keypoint": self.pair.kps_ids[self.source],
            "source_px": list(self.source_px),
            "targets_px": {
                letter: list(point) for letter, point in zip(LETTERS, self.targets_px, strict=True)
            },
            "choices": list(CHOICES),
            "answer": self.question.answer,
            "drawing": DRAWING,
        }


def make_questions(pairs: Sequence[Pair], n: int, seed: int) -> list[PointQuestion]:
    """Make up to n questions, the same for one seed in whatever order the pairs come.

    Pairs take turns in a random order: none is asked about twice before all were once, and never
    twice about one keypoint. A pair without four common keypoints inside both pictures, a ring
    apart in the second, gives none.
    """
    # A stream for each pair: the questions of one do not depend on which others there are.
    randoms = {pair.id: Random(f"{seed}:{pair.id}") for pair in pairs}
    order = sorted(pairs, key=lambda pair: (randoms[pair.id].random(), pair.id))
    # Rounds over all pairs: the first questions are of as many different pairs as there are.
    turns = zip_longest(*(_of_pair(pair, randoms[pair.id]) for pair in order))
    candidates = (candidate for candidate in chain.from_iterable(turns) if candidate is not None)
    return [
        PointQuestion(number, pair, source, targets)
        for number, (pair, source, targets) in enumerate(islice(candidates, n))
    ]


def _of_pair(pair: Pair, random: Random) -> Iterator[tuple[Pair, int, tuple[int, ...]]]:
    """Yield (pair, source, targets), each common keypoint once as the source, in a random order."""
    # A point outside of either picture has no token, and can be neither marked nor chosen.
    usable = [
        index
        for index, (source, target) in enumerate(zip(pair.src_kps_px, pair.trg_kps_px, strict=True))
        if _inside(source, pair.src_wh_px) and _inside(target, pair.trg_wh_px)
    ]
    # Rings that overlap could not be told apart, nor could the tokens below them.
    least_px = 2 * ring_radius_px(pair.trg_wh_px)
    for source in random.sample(usable, len(usable)):
        targets = [source]
        # Distractors are accepted one by one, each a ring apart from those before.
        for candidate in random.sample(usable, len(usable)):
            if all(
                dist(pair.trg_kps_px[candidate], pair.trg_kps_px[index]) >= least_px
                for index in targets
            ):
                targets.append(candidate)
        # The right point is among the four, at any letter: its place says nothing.
        if len(targets) >= len(LETTERS):
            yield pair, source, tuple(random.sample(targets[: len(LETTERS)], len(LETTERS)))


def _inside(point: Point, wh_px: tuple[int, int]) -> bool:
    return 0 <= point[0] < wh_px[0] and 0 <= point[1] < wh_px[1]


def picture_files(
    questions: Sequence[PointQuestion], refs: Mapping[str, ImageRef]
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the marked pictures and of QUESTIONS, which comes last. Raises
    ImageError."""
    for question in questions:
        marks = ([question.source_px], ["REF"]), (question.targets_px, LETTERS)
        images = question.pair.src_id, question.pair.trg_id
        for file, image, (points, names) in zip(question.files, images, marks, strict=True):
            picture = load_image(refs[image])
            buffer = BytesIO()
            draw_marks(picture, place_marks(points, names, picture.size)).save(buffer, format="PNG")
            yield file, buffer.getvalue()
    yield QUESTIONS, questions_file(questions)


def questions_file(questions: Sequence[PointQuestion]) -> bytes:
    """Return a line for each question: what is drawn, and the prompt."""
    lines = (
        json.dumps({**question.record(), "prompt": PROMPT}, ensure_ascii=False)
        for question in questions
    )
    return "".join(f"{line}\n" for line in lines).encode()


def write_pictures(
    folder: Path, questions: Sequence[PointQuestion], refs: Mapping[str, ImageRef]
) -> None:
    """Write the same files into a folder of the user's, all or none.

    A folder that holds these very questions stays as it is. Raises UsageError where it holds
    anything else.
    """
    if (folder / QUESTIONS).is_file() and (folder / QUESTIONS).read_bytes() == questions_file(
        questions
    ):
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(
            f"--pictures: expected a new or empty folder, found something in it: {folder}; name "
            "another"
        )
    with output_folder(folder, "--pictures") as aside:
        for name, data in picture_files(questions, refs):
            (aside / name).write_bytes(data)

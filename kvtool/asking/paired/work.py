"""The questions of a paired task over a run: their marked pictures, and the model's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool.asking.answering import Answer, Answerer
from kvtool.asking.image_replies import ATTENTION
from kvtool.asking.paired.answers import (
    PADDED,
    ask_one_image,
    ask_several_images,
    marked_prompt,
    pads_pictures,
    stored_prompt,
)
from kvtool.asking.paired.points import DRAWING, picture_files, write_pictures
from kvtool.asking.paired.questions import PairedQuestions
from kvtool.asking.paired.replies import AnswerPrompt
from kvtool.asking.paired.tasks import PairedTask
from kvtool.datasets.base import ImageRef
from kvtool.progress import Progress
from kvtool.store import Run, Store, hash_json
from kvtool.store.provenance import describe_run
from kvtool.tasks.base import BlockPlan


@dataclass(frozen=True)
class QuestionWork:
    """A task's questions over a run, and the blocks that answer them.

    `refs` are the data set's pictures by id.
    """

    store: Store
    run: Run
    task: PairedTask
    paired: PairedQuestions
    plan: BlockPlan
    refs: Mapping[str, ImageRef]

    def draw(self, folder: Path | None) -> Path | None:
        """Return the folder of the questions' marked pictures, drawn where they are not there yet.

        It is None for questions without marks.
        """
        points = self.paired.points
        if points is None:
            return None
        if folder is not None:
            write_pictures(folder, points, self.refs)
            return folder
        key = self.pictures_key
        assert key is not None
        return self.store.pictures(key, lambda: picture_files(points, self.refs))

    @property
    def pictures_key(self) -> str | None:
        """The key of the stored marked pictures: the points, and the pictures that they lie in."""
        points = self.paired.points
        if points is None:
            return None
        # Points on other pictures under the same ids are other drawings.
        images = {image for point in points for image in point.question.image_ids}
        return hash_json([[point.record() for point in points], self.run.images_hash(images)])

    def ask(self, answerer: Answerer, folder: Path | None, progress: Progress) -> list[Answer]:
        """Return the model's answers, in the order of the questions."""
        questions = self.paired.questions
        # Single images go on from their stored caches; several are prepared together.
        if self.paired.points is None and all(
            len(question.image_ids) == 1 for question in questions
        ):
            return ask_one_image(answerer, questions, progress)
        return ask_several_images(answerer, self.prompts(answerer, folder), progress)

    def prompts(self, answerer: Answerer, folder: Path | None) -> list[AnswerPrompt]:
        """Return the questions over their pictures; `folder` holds the marked ones, see draw."""
        questions = self.paired.questions
        if self.paired.points is None or folder is None:
            return [stored_prompt(answerer, question, self.refs) for question in questions]
        pairs = zip(self.paired.points, questions, strict=True)
        return [
            marked_prompt(answerer, point, question.prompt, folder) for point, question in pairs
        ]

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return sum(len(layers) * len(heads) for _, layers, heads in self.plan.blocks)

    def digests(self) -> dict[str, str]:
        """Return the digest of each of the run's pictures, by image id."""
        return {picture.id: picture.digest for picture in self.run.pictures}

    def _several_images(self) -> str | None:
        """Return how pictures of questions over several enter the prompt: padded to squares, or as
        they are stored; None where each question has one picture.
        """
        questions = self.paired.questions
        if any(pads_pictures(self.run, question) for question in questions):
            return PADDED
        return "stored" if any(len(question.image_ids) > 1 for question in questions) else None

    def config(self, algorithm: int) -> dict[str, Any]:
        """Return what the numbers depend on, of which `algorithm` is the version."""
        # Questions and drawn points are hashed: what else they were drawn from does not matter.
        texts = [
            [question.id, list(question.image_ids), question.prompt, question.answer]
            for question in self.paired.questions
        ]
        points = [point.record() for point in self.paired.points or []]
        return {
            "task": self.task.name,
            "algorithm": algorithm,
            **describe_run(self.run),
            "subset": self.task.subset or None,
            "questions": len(texts),
            "questions_hash": hash_json([texts, points]),
            "pictures": self.pictures_key,
            "several_images": self._several_images(),
            "drawing": None if self.paired.points is None else DRAWING,
            "attention": ATTENTION,
            "blocks": [
                {"kind": k, "layers": list(ls), "kv_heads": list(hs)}
                for k, ls, hs in self.plan.blocks
            ],
        }

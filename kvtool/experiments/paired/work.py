"""The questions of a paired task: asked of the model, answered by the values, scored and
written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.asking.answer_files import write_lines
from kvtool.asking.answering import ATTENTION, Answer, Answerer
from kvtool.asking.caches import no_answer
from kvtool.datasets.base import ImageRef
from kvtool.errors import KvtoolError
from kvtool.experiments.paired.answers import (
    PADDED,
    ask_one_image,
    ask_several_images,
    marked_prompt,
    pads_pictures,
    stored_prompt,
)
from kvtool.experiments.paired.cells import ComparedAnswers
from kvtool.experiments.paired.guesses import RecordedAnswers, beside_guesses
from kvtool.experiments.paired.points import DRAWING, picture_files, write_pictures
from kvtool.experiments.paired.questions import PairedQuestions
from kvtool.experiments.paired.tasks import PairedTask
from kvtool.metrics.answers import parse_choice
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row, versions
from kvtool.stats.bootstrap import Array
from kvtool.store import Run, Store, hash_json
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.tasks.base import BlockPlan, halves, nonfinite_lines
from kvtool.tasks.blocks import BASELINES
from kvtool.tasks.scoring import choose_best, per_layer
from kvtool.tasks.walk import score_blocks

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PairedWork:
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
        images = {image for point in points for image in point.question.image_ids}
        return hash_json([[point.record() for point in points], self.run.images_hash(images)])

    def ask(self, answerer: Answerer, folder: Path | None, progress: Progress) -> list[Answer]:
        """Return the model's answers, in the order of the questions."""
        questions = self.paired.questions
        n_blocks = sum(len(layers) * len(heads) for _, layers, heads in self.plan.blocks)
        progress(0, "", len(questions) + n_blocks)
        if self.paired.points is not None and folder is not None:
            pairs = zip(self.paired.points, questions, strict=True)
            prompts = [
                marked_prompt(answerer, point, question.prompt, folder) for point, question in pairs
            ]
        # Single images go on from their stored caches; several are prepared together.
        elif all(len(question.image_ids) == 1 for question in questions):
            return ask_one_image(answerer, questions, progress)
        else:
            prompts = [stored_prompt(answerer, question, self.refs) for question in questions]
        return ask_several_images(answerer, prompts, progress)

    def result(
        self,
        answers: Sequence[Answer],
        config: dict[str, Any],
        device: torch.device,
        progress: Progress,
    ) -> Result:
        """Score every block beside the model.

        Raises KvtoolError where no block answers, or the model too few questions.
        """
        left_out = self.paired.left_out
        compared = self._compared(answers, config["metric"])
        unanswered = self._unanswered(compared, config["select"])
        metric = compared.metric
        recorded = RecordedAnswers(compared)
        rows, half_rows, scored = self._rows(recorded, config, device, progress)
        best = choose_best(rows, half_rows, metric)
        lines = nonfinite_lines(self.run, rows)
        if best is None:
            raise KvtoolError(
                f"paired {self.task.name}: expected a block that can answer, found none: {lines[0]}"
            )
        # The best of many blocks is right by luck too: its tests are those of the best.
        best = best | recorded.tests(best, scored, config["seed"])
        baselines = [{"run": self.run.name, **row} for row in rows if row["kind"] in BASELINES]
        measured = recorded.blocks[best["kind"], best["layer"], best["kv_head"]]
        items = self._items(compared, answers, measured, scored)
        return Result(
            command="paired",
            task=self.task.name,
            metric=metric,
            n=len(compared.answered),
            rows=rows,
            best=best,
            per_layer=per_layer(rows, metric),
            baselines=baselines,
            config=config,
            versions=versions(),
            n_skipped=len(unanswered) + left_out.count,
            n_unusable=len(unanswered) + left_out.unusable,
            skipped=[*lines, *unanswered, *left_out.lines][:MAX_REASONS],
            items=items,
        )

    def _compared(self, answers: Sequence[Answer], metric: str) -> ComparedAnswers:
        """Return the questions with the choices that the model's answers name."""
        questions = self.paired.questions
        options = [
            None if answer is None else parse_choice(answer, question.choices)
            for answer, question in zip(answers, questions, strict=True)
        ]
        return ComparedAnswers(questions, self.paired.reading, options, metric, self._digests())

    def _rows(
        self,
        recorded: RecordedAnswers,
        config: dict[str, Any],
        device: torch.device,
        progress: Progress,
    ) -> tuple[list[Row], list[Row], Array]:
        """Return a row for each block, those of the second half's questions with select "split",
        and the indices of the questions that the best block is scored on.
        """
        compared, seed = recorded.compared, config["seed"]
        rows, half_rows = score_blocks(
            recorded, self.plan, device, config["select"], seed, progress
        )
        rows = [compared.counted(row) for row in rows]
        half_rows = [compared.counted(row) for row in half_rows]
        # Beside what guessing gives: the best of as many blocks, or one chosen on the first half.
        answered = compared.answered
        rows = beside_guesses(rows, compared, answered, len(recorded.candidates()) or 1, seed)
        if not half_rows:
            return rows, half_rows, answered
        scored = answered[halves(len(answered), seed, compared.clusters)[1]]
        return rows, beside_guesses(half_rows, compared, scored, 1, seed), scored

    def _digests(self) -> dict[str, str]:
        """Return the digest of each of the run's pictures, by image id."""
        return {picture.id: picture.digest for picture in self.run.pictures}

    def _unanswered(self, compared: ComparedAnswers, select: str) -> list[str]:
        """Return a line for each question that the model does not answer.

        Raises KvtoolError where fewer questions remain than are scored.
        """
        pairs = zip(compared.questions, compared.options, strict=True)
        lines = [no_answer(question) for question, option in pairs if option is None]
        n = len(compared.answered)
        if n < (2 if select == "split" else 1):
            raise KvtoolError(
                f"paired {self.task.name}: expected questions that the model answers, found {n} of "
                f"{len(compared.questions)}: {lines[0]}"
            )
        return lines

    def _items(
        self,
        compared: ComparedAnswers,
        answers: Sequence[Answer],
        measured: Array,
        scored: Array,
    ) -> list[Row]:
        """Return a record for each question of the best block, with the files of marked pictures.

        With "split" the first half chose the block: only the questions `scored` have cells.
        """
        items = list(compared.items(measured, answers, scored))
        if self.paired.points is None:
            return items
        pairs = zip(items, self.paired.points, strict=True)
        return [{**item, "files": list(point.files)} for item, point in pairs]

    def write(self, result: Result, path: Path) -> None:
        """Write a JSON line for each question: its record, and its text and choices. Raises
        StoreError."""
        pairs = zip(result.items, self.paired.questions, strict=True)
        lines = (
            {**item, "text": question.prompt, "choices": list(question.choices)}
            for item, question in pairs
        )
        write_lines(path, (json.dumps(line, ensure_ascii=False) for line in lines))

    def _several_images(self) -> str | None:
        """Return how pictures of questions over several enter the prompt: padded to squares, or as
        they are stored; None where each question has one picture.
        """
        questions = self.paired.questions
        if any(pads_pictures(self.run, question) for question in questions):
            return PADDED
        return "stored" if any(len(question.image_ids) > 1 for question in questions) else None

    def config(self) -> dict[str, Any]:
        """Return what the numbers depend on."""
        texts = [
            [question.id, list(question.image_ids), question.prompt, question.answer]
            for question in self.paired.questions
        ]
        points = [point.record() for point in self.paired.points or []]
        return {
            "task": self.task.name,
            "algorithm": ALGORITHMS["paired"],
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

"""A benchmark's questions under conditions of heads, blocked or changed: asked, scored, written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kvtool.asking.answer_files import write_answers, write_official
from kvtool.asking.answering import Answer, Answerer
from kvtool.asking.benchmarks import Benchmark
from kvtool.asking.caches import no_answer
from kvtool.asking.condition_answers import Answers
from kvtool.asking.conditions import AnswerSheet
from kvtool.asking.heads import HeadCondition
from kvtool.asking.image_replies import ATTENTION, ImageReplies, Reply
from kvtool.datasets.base import DatasetBase, ImageRef, Question
from kvtool.errors import KvtoolError
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, versions
from kvtool.store import Run, Store, hash_json
from kvtool.store.provenance import ALGORITHMS, describe_run


@dataclass(frozen=True)
class HeadWork:
    """What is asked of which run under which conditions.

    `command` asks; `settings` are all that the numbers depend on.
    """

    command: str
    store: Store
    run: Run
    benchmark: Benchmark
    dataset: DatasetBase
    refs: tuple[ImageRef, ...]
    questions: tuple[Question, ...]
    conditions: tuple[HeadCondition, ...]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def n_images(self) -> int:
        """The number of images that are asked about."""
        return len({question.image_ids[0] for question in self.questions})

    @property
    def digests(self) -> dict[str, str]:
        """What tells the pictures of image ids apart."""
        return {picture.id: picture.digest for picture in self.run.pictures}

    @property
    def sheet(self) -> AnswerSheet:
        """What scores answers to the questions."""
        return AnswerSheet(self.benchmark, self.questions, self.digests, self.seed)

    def ask(self, answerer: Answerer, progress: Progress) -> list[tuple[Answer, ...]]:
        """Return what is answered under each condition, in the order of the questions.

        Questions asked twice are answered once.
        """
        prompts = [question.prompt for question in self.questions]
        return self.replies(answerer, prompts, progress)

    def replies(
        self, replies: ImageReplies[Reply], texts: Sequence[str], progress: Progress
    ) -> list[tuple[Reply | None, ...]]:
        """Return what is replied to each question under each condition; a text for each question.

        Texts that stand twice are asked once.
        """
        # An image's cache is read once for all texts about it.
        images = [question.image_ids[0] for question in self.questions]
        by_image: dict[str, list[str]] = {}
        for image, text in zip(images, texts, strict=True):
            by_image.setdefault(image, []).append(text)
        # Equal changes are run once, as that of a part which holds all chosen heads.
        changes = list(dict.fromkeys(condition.change for condition in self.conditions))
        table = replies.ask(by_image, changes, progress)
        by_condition = (table[condition.change] for condition in self.conditions)
        return [
            tuple(answers[image][text] for image, text in zip(images, texts, strict=True))
            for answers in by_condition
        ]

    def answered(self, texts: Sequence[Sequence[Answer]]) -> tuple[HeadWork, list[Answers]]:
        """Return the work on questions that have an answer under every condition, with what is
        scored together with them, and their answers.

        A line for each of the others is added to the skipped ones. Raises KvtoolError where no
        question remains.
        """
        unit_of = self.benchmark.unit_of
        # Conditions are compared question by question: one without an answer goes from all of them.
        unanswered = {
            index for replies in texts for index, text in enumerate(replies) if text is None
        }
        # MME scores the two questions of a picture together: with one of them the other goes too.
        units = {unit_of(self.questions[index]) for index in unanswered}
        remaining = []
        lines = []
        for index, question in enumerate(self.questions):
            if unit_of(question) not in units:
                remaining.append(index)
            elif index in unanswered:
                lines.append(no_answer(question))
            else:
                lines.append(f"question {question.id}: the other one about its image has no answer")
        if not remaining:
            raise KvtoolError(
                f"{self.command}: expected questions that have an answer under every condition, "
                f"found none: {lines[0]}"
            )
        conditions = [
            Answers(
                condition.name,
                condition.draw,
                len(condition.heads),
                tuple(replies[index] or "" for index in remaining),
                condition.change,
            )
            for condition, replies in zip(self.conditions, texts, strict=True)
        ]
        questions = tuple(self.questions[index] for index in remaining)
        return replace(self, questions=questions, skipped=(*lines, *self.skipped)), conditions

    def result(self, conditions: Sequence[Answers]) -> Result:
        """Score the answers of every condition."""
        sheet = self.sheet
        rows = sheet.score(conditions)
        # The official script counts an empty answer as yes, which blocked heads can make common.
        empty = max(row["n_empty"] for row in rows)
        notes = list(self.notes)
        if empty and self.benchmark.name == "pope":
            notes.append(f"empty answers count as yes, as POPE's script reads them: {empty:g}")
        return Result(
            command=self.command,
            task=self.benchmark.name,
            metric=self.benchmark.metric,
            n=rows[0]["n"],
            rows=rows,
            config=self.settings | {"notes": notes},
            versions=versions(),
            n_skipped=len(self.skipped),
            skipped=list(self.skipped[:MAX_REASONS]),
            unit=self.benchmark.unit,
            chance=sheet.chance_rows,
        )

    def write(
        self,
        conditions: Sequence[Answers],
        answers: str | Path | None,
        official: str | Path | None,
    ) -> None:
        """Write the answers that are asked for, see answer_files. Raises StoreError."""
        if answers is not None:
            write_answers(Path(answers), self.benchmark, self.questions, conditions)
        if official is not None:
            pictures = {ref.id: ref.path.name if ref.path else ref.id for ref in self.refs}
            write_official(Path(official), self.benchmark, self.questions, conditions, pictures)

    def config(self) -> dict[str, Any]:
        """Return what the answers depend on."""
        # A hash of the questions tells results over other questions apart.
        questions = [[q.id, q.image_ids[0], q.prompt, q.answer] for q in self.questions]
        return {
            "task": self.benchmark.name,
            "algorithm": ALGORITHMS[self.command],
            **describe_run(self.run, {question.image_ids[0] for question in self.questions}),
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "questions": len(self.questions),
            "questions_hash": hash_json(questions),
            "attention": ATTENTION,
            "conditions": [condition.record() for condition in self.conditions],
        }

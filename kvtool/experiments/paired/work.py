"""The questions of a paired task: asked of the model, answered by the values, scored and
written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.asking.answer_files import write_lines
from kvtool.asking.answering import Answer
from kvtool.asking.caches import no_answer
from kvtool.asking.paired.work import QuestionWork
from kvtool.errors import KvtoolError
from kvtool.experiments.paired.cells import ComparedAnswers
from kvtool.experiments.paired.guesses import RecordedAnswers, beside_guesses
from kvtool.metrics.answers import parse_choice
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row, versions
from kvtool.stats.bootstrap import Array
from kvtool.tasks.base import halves, nonfinite_lines
from kvtool.tasks.blocks import BASELINES
from kvtool.tasks.scoring import choose_best, per_layer
from kvtool.tasks.walk import score_blocks

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PairedWork(QuestionWork):
    """A task's questions, asked of the model and answered by the values of its blocks."""

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
        return ComparedAnswers(questions, self.paired.reading, options, metric, self.digests())

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
        # The same halves as those by which the block was chosen.
        scored = answered[halves(len(answered), seed, compared.clusters)[1]]
        return rows, beside_guesses(half_rows, compared, scored, 1, seed), scored

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

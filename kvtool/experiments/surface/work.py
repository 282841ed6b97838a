"""The questions of a task, answered by the model, by the values of its blocks, and by both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.asking.answering import Answer
from kvtool.asking.caches import no_answer
from kvtool.asking.paired.readings import CosineReading
from kvtool.asking.paired.work import QuestionWork
from kvtool.errors import KvtoolError
from kvtool.experiments.surface.fusion import OptionEvidence
from kvtool.experiments.surface.scores import METRIC, Block, SurfaceScores
from kvtool.features.layers import Layer
from kvtool.metrics.answers import parse_choice
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, versions
from kvtool.stats.bootstrap import Array
from kvtool.store import hash_json
from kvtool.store.nonfinite import WHAT, describe

if TYPE_CHECKING:
    import torch


class SurfaceWork(QuestionWork):
    """A task's questions, whose options model and values speak for."""

    def result(
        self,
        answers: Sequence[Answer],
        option_scores: Sequence[list[float] | None],
        config: dict[str, Any],
        device: torch.device,
        progress: Progress,
    ) -> Result:
        """Score model, values and both.

        Raises KvtoolError where no block answers, or the model too few questions; UsageError where
        the questions are on one half of the pictures alone.
        """
        questions = self.paired.questions
        pairs = list(zip(answers, option_scores, strict=True))
        answered = [index for index, pair in enumerate(pairs) if None not in pair]
        unanswered = [no_answer(questions[i]) for i, pair in enumerate(pairs) if None in pair]
        if len(answered) < 2:
            raise KvtoolError(
                f"surface {self.task.name}: expected two questions or more that the model answers, "
                f"found {len(answered)} of {len(questions)}: {unanswered[0]}"
            )
        cosines, blocks, lines = self._cosines(device, progress)
        scores = self._scores(answers, option_scores, answered, cosines, blocks, config)
        rows = scores.rows()
        n_scored = len(scores.crossed.rows)
        if astride := len(answered) - n_scored:
            lines.append(f"{astride} questions join pictures of both halves, and are in neither")
        left_out = self.paired.left_out
        return Result(
            command="surface",
            task=self.task.name,
            metric=METRIC,
            n=n_scored,
            rows=rows,
            config=config,
            versions=versions(),
            n_skipped=len(unanswered) + astride + left_out.count,
            n_unusable=len(unanswered) + left_out.unusable,
            skipped=[*lines, *unanswered, *left_out.lines][:MAX_REASONS],
            items=list(scores.items([answers[index] for index in answered])),
        )

    def _scores(
        self,
        answers: Sequence[Answer],
        option_scores: Sequence[list[float] | None],
        answered: Sequence[int],
        cosines: Array,
        blocks: Sequence[Block],
        config: dict[str, Any],
    ) -> SurfaceScores:
        """Return what is scored: the answered questions (indices)."""
        questions = [self.paired.questions[index] for index in answered]
        width = max(len(question.choices) for question in questions)
        # Options that a question lacks have probability 0.
        log_probabilities = np.full((len(questions), width), -np.inf)
        for row, index in enumerate(answered):
            options = option_scores[index] or []
            log_probabilities[row, : len(options)] = options
        text_right = [
            parse_choice(answers[index] or "", question.choices) == question.answer
            for index, question in zip(answered, questions, strict=True)
        ]
        labels = np.array([ord(question.answer[1]) - ord("A") for question in questions])
        # Pictures by digest, since one may have several ids.
        digests = self.digests()
        points = self.paired.points
        marks = None if points is None else [hash_json(points[i].record()) for i in answered]
        return SurfaceScores(
            questions,
            [tuple(digests.get(id) or id for id in question.image_ids) for question in questions],
            np.array(text_right),
            OptionEvidence(log_probabilities, cosines[:, list(answered), :width], labels),
            blocks,
            min(config["n_blocks"], len(blocks)),
            config["seed"],
            marks,
        )

    def _cosines(
        self, device: torch.device, progress: Progress
    ) -> tuple[Array, list[Block], list[str]]:
        """Return the evidence of all blocks that are finite, (block, question, option), which they
        are, and a line that names the others.

        Raises KvtoolError where no block is finite.
        """
        reading = self.paired.reading
        assert isinstance(reading, CosineReading), "surface refuses the tasks of probes"
        parts: list[Array] = []
        blocks: list[Block] = []
        spoiled: set[Block] = set()
        for kind, layers, heads in self.plan.blocks:
            for number in layers:
                layer = Layer(self.run, kind, number, heads, device)
                cosines = reading.evidence(layer).cpu().numpy().astype(np.float64)
                # A block with one value that is not finite has no evidence for all questions.
                for index, head in enumerate(heads):
                    if layer.nonfinite[index] or np.isnan(cosines[index]).any():
                        spoiled.add((kind, number, head))
                    else:
                        parts.append(cosines[index])
                        blocks.append((kind, number, head))
                progress(len(heads), f"{kind} layer {number}")
        lines = [f"{WHAT}, so no evidence: {describe(spoiled, self.run.config)}"] * bool(spoiled)
        if not blocks:
            raise KvtoolError(
                f"surface {self.task.name}: expected a block that can answer, found none: "
                f"{lines[0]}"
            )
        return np.stack(parts), blocks, lines

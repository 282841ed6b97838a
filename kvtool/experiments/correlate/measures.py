"""What `kvtool correlate` measures of every model: the same images segmented, the same questions
asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.asking.answering import Answer, Answerer, AnswerTable
from kvtool.asking.choices import ChoiceQuestion, ask, first_of_cells, perception
from kvtool.asking.records import with_interval
from kvtool.asking.wording import Wording
from kvtool.datasets.base import DatasetBase
from kvtool.datasets.identity import check_pictures, dataset_of
from kvtool.errors import KvtoolError
from kvtool.experiments.correlate.subjects import ModelRuns
from kvtool.progress import Progress
from kvtool.result import Result, Row
from kvtool.stats.bootstrap import Estimate, mean_over_tasks
from kvtool.store import Run, open_store
from kvtool.store.shares import Share
from kvtool.tasks.by_model import Identity, source_of
from kvtool.tasks.evaluation import evaluate
from kvtool.types import Precision


class Common:
    """The same images and questions for every model, those that the runs of all of them hold.

    `images` are ids by task, `questions` those of all benchmarks; `notes` say how many are left out
    because some models lack them. Raises KvtoolError where no image of a task or no question of a
    benchmark remains. `digests` tell the pictures of the questions apart, by image id.

    Args:
        subjects: the models, each with its runs.
        data: the places of data sets, by name.
        limit: the most questions, see first_of_cells.
        wording: how they are worded.
        dtype: the precision in which they are answered, by default each run's.
    """

    def __init__(
        self,
        subjects: Sequence[ModelRuns],
        data: Mapping[str, str],
        limit: int | None,
        wording: Wording,
        dtype: Precision | None,
    ) -> None:
        self.data = data
        self.wording = wording
        self.dtype = dtype
        self._opened: dict[tuple[str, str, str | None], DatasetBase] = {}
        self.notes: list[str] = []
        self.images = {task: self._images(task, subjects) for task in subjects[0].segmented}
        self._probed: dict[Identity, dict[str, Result]] = {}
        self._found: dict[tuple[Path, str], AnswerTable] = {}
        self._held = {
            subject.identity: runs
            for subject, runs in zip(subjects, self._holding(subjects), strict=True)
        }
        # The limit is applied to common questions, so that all models have the same ones.
        self.questions = first_of_cells(self._questions(subjects), limit)
        asked_runs = chain.from_iterable(subjects[0].benchmark_runs.values())
        pictures = chain.from_iterable(run.pictures for run in asked_runs)
        self.digests = {picture.id: picture.digest for picture in pictures}
        for run in (run for subject in subjects for run in subject.segmented.values()):
            self._dataset(run)
        self.truth_hashes = sorted(
            [name, split, dataset.truth_digest()]
            for (name, split, _), dataset in self._opened.items()
        )

    def _images(self, task: str, subjects: Sequence[ModelRuns]) -> set[str]:
        """Return the images of a task that the runs of every model hold."""
        image_sets = [set(subject.segmented[task].ids) for subject in subjects]
        common = set.intersection(*image_sets)
        if not common:
            raise KvtoolError(
                f"correlate: {task}: expected images that the runs of every model hold, found none"
            )
        if partial_images := set.union(*image_sets) - common:
            self.notes.append(
                f"{task}: {len(partial_images)} images that some models lack are left out of all"
            )
        return common

    def _holding(self, subjects: Sequence[ModelRuns]) -> list[dict[ChoiceQuestion, Run]]:
        """Return each model's questions, each with a run that holds the picture."""
        holding = []
        for subject in subjects:
            runs: dict[ChoiceQuestion, Run] = {}
            # A question that several runs hold is asked of the first: it is the same picture.
            for run in chain.from_iterable(subject.benchmark_runs.values()):
                for question in perception(self._dataset(run), set(run.ids)):
                    worded = replace(question, question=self.wording.of(question.question))
                    runs.setdefault(worded, run)
            holding.append(runs)
        return holding

    def _dataset(self, run: Run) -> DatasetBase:
        """Return a run's data set, opened once for all runs over it.

        Its pictures are compared with those of each run.
        """
        config = run.config
        key = (config.dataset, config.split, run.place)
        if key not in self._opened:
            self._opened[key] = dataset_of(run, self.data.get(config.dataset))
        else:
            check_pictures(run, self._opened[key])
        return self._opened[key]

    def _questions(self, subjects: Sequence[ModelRuns]) -> list[ChoiceQuestion]:
        """Return the questions whose picture every model's runs hold."""
        by_model = list(self._held.values())
        # In the order of the first model, so that the questions are the same list for all.
        common_set = set(by_model[0]).intersection(*by_model)
        common = [question for question in by_model[0] if question in common_set]
        for name in subjects[0].benchmark_runs:
            if not any(question.benchmark == name for question in common):
                raise KvtoolError(
                    f"correlate: {name}: expected questions of which the runs of every model hold "
                    "the picture, found none; extract the same images for all"
                )
        if n_partial := len(set[ChoiceQuestion]().union(*by_model)) - len(common):
            self.notes.append(
                f"{n_partial} questions about images that some models lack are left out of all"
            )
        return common

    def measure(
        self,
        subject: ModelRuns,
        task_options: Mapping[str, Mapping[str, Any]],
        model: str | None,
        max_new_tokens: int,
        share: Share,
        progress: Progress,
        **options: Any,
    ) -> tuple[Row, list[Answer]]:
        """Return a model's segmentation scores, and its answers; `model` is the model's place.

        Raises BusyError where other processes hold some of it, when all else is done; called again,
        it goes on from there.
        """
        probed = self._probed.setdefault(subject.identity, {})
        replies: dict[ChoiceQuestion, Answer] = {}

        def score(task: str) -> None:
            """Probe one task."""
            if task not in probed:
                probed[task] = self._probe(
                    subject, task, share, progress, **options, **task_options[task]
                )

        def answer() -> None:
            """Ask all questions."""
            replies.update(
                self._answers(subject, model, max_new_tokens, share, progress, **options)
            )

        # Where another process is at a probe, there may still be something to ask.
        work: list[Callable[[], None]] = [
            *(partial(score, task) for task in subject.segmented),
            answer,
        ]
        share.each(work, lambda do: do(), "probes and answers")
        return segmentation_row(subject.segmented, probed), [
            replies[question] for question in self.questions
        ]

    def _probe(
        self, subject: ModelRuns, task: str, share: Share, progress: Progress, **options: Any
    ) -> Result:
        """Score a task on the common images."""
        run = subject.segmented[task]
        # The very probe that kvtool probe keeps serves where all images are common.
        ids = None if self.images[task] == set(run.ids) else self.images[task]

        def tell(_n: int, note: str = "") -> None:
            """Pass the note on."""
            progress(0, f"{subject.identity.name}: {task}: {note}")

        data = self.data.get(run.config.dataset)
        return evaluate(run, task, ids=ids, data=data, share=share, progress=tell, **options)

    def _answers(
        self,
        subject: ModelRuns,
        model: str | None,
        max_new_tokens: int,
        share: Share,
        progress: Progress,
        *,
        device: str,
        fresh: bool,
        **_: Any,
    ) -> dict[ChoiceQuestion, Answer]:
        """Return what a model says to every question. Its weights are loaded once, if at all."""
        runs = self._held[subject.identity]
        # Questions go run by run, since caches are read from the run that holds the picture.
        distinct_runs = {
            (runs[question].store, runs[question].name): runs[question]
            for question in self.questions
        }
        replies: dict[ChoiceQuestion, Answer] = {}
        answerers: list[Answerer] = []

        def ask_over(run: Run) -> None:
            """Ask about the pictures that one run holds."""
            answers = self._found.setdefault((run.store, run.name), {})
            # The first answerer's weights serve the other runs.
            beside = answerers[0] if answerers else None
            common = (model, device, max_new_tokens, fresh, beside, share, answers, self.dtype)
            answerers.append(Answerer(open_store(run.store), run, *common))
            replies.update(
                ask(
                    answerers[-1],
                    [question for question in self.questions if runs[question] is run],
                    progress,
                )
            )

        share.each(distinct_runs.values(), ask_over, "runs")
        return replies


def segmentation_row(segmented: Mapping[str, Run], probed: Mapping[str, Result]) -> Row:
    """Return the mean over tasks of the best value's score, and each task's.

    Tasks over one data set share their images: they are not independent. Raises KvtoolError where a
    task is defined for no value.

    Args:
        segmented: the run of each task.
        probed: its probe.
    """
    row: Row = {}
    scores = []
    levels = []
    for task, run in segmented.items():
        result = probed[task]
        if result.best is None:
            raise KvtoolError(
                f"run {run.name}: {task} is defined for none of its values; nothing to correlate"
            )
        # A best block without an interval leaves the mean without one.
        ends = (result.best[result.metric + end] for end in ("", "_low", "_high"))
        scores.append(Estimate(*(np.asarray(np.nan if end is None else end) for end in ends)))
        row |= with_interval(task, *map(float, scores[-1]))
        levels.append(result.best.get("chance"))
    # Of a task of a plug-in chance may not be known, and then that of the mean is not.
    defined = [level for level in levels if level is not None]
    chance = float(np.mean(defined)) if len(defined) == len(levels) else None
    estimate = mean_over_tasks(scores, [source_of(run) for run in segmented.values()])
    mean = with_interval("segmentation", *map(float, estimate))
    return mean | {"segmentation_chance": chance} | row

"""What `kvtool correlate` measures of every model: the same images segmented, the same questions
asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.asking.answering import Answerer, AnswerTable
from kvtool.asking.caches import Progress
from kvtool.asking.choices import ChoiceQuestion, ask, first_of_cells, perception
from kvtool.asking.records import with_interval
from kvtool.datasets.base import DatasetBase
from kvtool.datasets.identity import check_pictures, dataset_of
from kvtool.errors import KvtoolError
from kvtool.experiments.correlate.subjects import Identity, Subject
from kvtool.result import Result, Row
from kvtool.stats.bootstrap import Estimate, mean_of_independent
from kvtool.store import Run, open_store
from kvtool.store.shares import Share
from kvtool.tasks.evaluation import evaluate


class Common:
    """The same images and questions for every model, those that the runs of all of them hold.

    data: where data sets are now, by name. limit: of questions, see first_of_cells. images: ids by
    task; questions: of all benchmarks. notes: how many are left out because some models lack them.
    Raises KvtoolError where no image of a task or no question of a benchmark is left.
    """

    def __init__(
        self, subjects: Sequence[Subject], data: Mapping[str, str], limit: int | None
    ) -> None:
        self.data = data
        self._opened: dict[tuple[str, str, str | None], DatasetBase] = {}
        self.notes: list[str] = []
        self.images = {task: self._images(task, subjects) for task in subjects[0].segmented}
        self._probed: dict[Identity, dict[str, Result]] = {}
        self._found: dict[tuple[Path, str], AnswerTable] = {}
        self._held = {
            subject.identity: held
            for subject, held in zip(subjects, self._holding(subjects), strict=True)
        }
        self.questions = first_of_cells(self._questions(subjects), limit)
        for run in (run for subject in subjects for run in subject.segmented.values()):
            self._dataset(run)
        self.truth_hashes = sorted(
            [name, split, dataset.truth_digest()]
            for (name, split, _), dataset in self._opened.items()
        )

    def _images(self, task: str, subjects: Sequence[Subject]) -> set[str]:
        held = [set(subject.segmented[task].ids) for subject in subjects]
        common = set.intersection(*held)
        if not common:
            raise KvtoolError(
                f"correlate: {task}: expected images that the runs of every model hold, found none"
            )
        if some := set.union(*held) - common:
            self.notes.append(
                f"{task}: {len(some)} images that some models lack are left out of all"
            )
        return common

    def _holding(self, subjects: Sequence[Subject]) -> list[dict[ChoiceQuestion, Run]]:
        """For each model its questions, each with a run that holds the picture."""
        every = []
        for subject in subjects:
            held: dict[ChoiceQuestion, Run] = {}
            for run in (run for of_benchmark in subject.asked.values() for run in of_benchmark):
                for each in perception(self._dataset(run), set(run.ids)):
                    held.setdefault(each, run)
            every.append(held)
        return every

    def _dataset(self, run: Run) -> DatasetBase:
        """A run's data set, opened once for all runs over it; its pictures are compared with those
        of each run."""
        config = run.config
        key = (config.dataset, config.split, run.place)
        if key not in self._opened:
            self._opened[key] = dataset_of(run, self.data.get(config.dataset))
        else:
            check_pictures(run, self._opened[key])
        return self._opened[key]

    def _questions(self, subjects: Sequence[Subject]) -> list[ChoiceQuestion]:
        every = list(self._held.values())
        common = [each for each in every[0] if all(each in held for held in every)]
        for name in subjects[0].asked:
            if not any(each.benchmark == name for each in common):
                raise KvtoolError(
                    f"correlate: {name}: expected questions of which the runs of every model hold "
                    "the picture, found none; extract the same images for all"
                )
        if some := len(set[ChoiceQuestion]().union(*every)) - len(common):
            self.notes.append(
                f"{some} questions about images that some models lack are left out of all"
            )
        return common

    def measure(
        self,
        subject: Subject,
        own: Mapping[str, Mapping[str, Any]],
        model: str | None,
        max_new_tokens: int,
        share: Share,
        progress: Progress,
        **options: Any,
    ) -> tuple[Row, list[str]]:
        """A model's segmentation, and its answers. own: a task's own options; model: where it is
        now; options: those of every probe. Raises BusyError where other processes hold some of it,
        when all else is done; called again, it goes on from there."""
        probed = self._probed.setdefault(subject.identity, {})
        said: dict[ChoiceQuestion, str] = {}

        def score(task: str) -> None:
            if task not in probed:
                probed[task] = self._probe(subject, task, share, progress, **options, **own[task])

        def answer() -> None:
            said.update(self._answers(subject, model, max_new_tokens, share, progress, **options))

        # Where another process is at a probe, there may still be something to ask.
        work: list[Callable[[], None]] = [
            *(partial(score, task) for task in subject.segmented),
            answer,
        ]
        share.each(work, lambda do: do(), "probes and answers")
        return self._segmentation(subject, probed), [said[each] for each in self.questions]

    def _probe(
        self, subject: Subject, task: str, share: Share, progress: Progress, **options: Any
    ) -> Result:
        """A task's scores on the common images."""
        run = subject.segmented[task]
        ids = None if self.images[task] == set(run.ids) else self.images[task]

        def tell(_n: int, note: str = "") -> None:
            progress(0, f"{subject.identity.name}: {task}: {note}")

        place = self.data.get(run.config.dataset)
        return evaluate(run, task, ids=ids, data=place, share=share, progress=tell, **options)

    def _segmentation(self, subject: Subject, probed: Mapping[str, Result]) -> Row:
        """The mean over tasks of the best value's score, and each task's. Raises KvtoolError where
        a task is defined for no value."""
        row: Row = {}
        scores = []
        for task, run in subject.segmented.items():
            found = probed[task]
            if found.best is None:
                raise KvtoolError(
                    f"run {run.name}: {task} is defined for none of its values; nothing to "
                    "correlate"
                )
            ends = (found.best[found.metric + end] for end in ("", "_low", "_high"))
            scores.append(Estimate(*(np.asarray(np.nan if end is None else end) for end in ends)))
            row |= with_interval(task, *map(float, scores[-1]))
        return with_interval("segmentation", *map(float, mean_of_independent(scores))) | row

    def _answers(
        self,
        subject: Subject,
        model: str | None,
        max_new_tokens: int,
        share: Share,
        progress: Progress,
        *,
        device: str,
        fresh: bool,
        **_: Any,
    ) -> dict[ChoiceQuestion, str]:
        """What a model says to every question. Its weights are loaded once, if at all."""
        held = self._held[subject.identity]
        runs = {(held[each].store, held[each].name): held[each] for each in self.questions}
        said: dict[ChoiceQuestion, str] = {}
        answerers: list[Answerer] = []

        def ask_over(run: Run) -> None:
            found = self._found.setdefault((run.store, run.name), {})
            store = open_store(run.store)
            beside = answerers[0] if answerers else None
            answerers.append(
                Answerer(store, run, model, device, max_new_tokens, fresh, beside, share, found)
            )
            said.update(
                ask(answerers[-1], [each for each in self.questions if held[each] is run], progress)
            )

        share.each(runs.values(), ask_over, "runs")
        return said

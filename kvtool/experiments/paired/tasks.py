"""The paired tasks: the run that serves one, its questions, and how the values are read.

Of BLINK these are the subsets whose answer the values alone can give: options that are images of
their own (by mean vectors), and A or B about one image (by a linear probe). See
docs/decisions/paired.md for the others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvtool.datasets.base import QUESTIONS, DatasetBase, Question
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.paired.points import PointQuestion, make_questions
from kvtool.experiments.paired.readings import (
    LinearProbe,
    MeanCosine,
    PointCosine,
    Reading,
    stratified_folds,
)
from kvtool.store import Run, Store
from kvtool.tasks.evaluation import tasks_of
from kvtool.tasks.semantic_correspondence import check_pair
from kvtool.tasks.survey import Served
from kvtool.tasks.truth import LeftOut, Sizes

ORDINALS = ("first", "second", "third", "fourth")
N_POINTS = 200
FOLDS = 5
C = 0.01
"""Inverse L2 strength of the linear probe: some hundred questions have about as many as a head has
channels."""


@dataclass(frozen=True)
class PairedQuestions:
    """The questions of a task over a run, and how the values answer them.

    Args:
        questions: the questions that can be asked.
        reading: how the values answer them.
        left_out: the questions that were left out, with reasons.
        settings: options that the questions or the reading depend on.
        points: each question's points, for semantic correspondence; their pictures are marked
            before the model sees them.
    """

    questions: list[Question]
    reading: Reading
    left_out: LeftOut
    settings: dict[str, Any]
    points: list[PointQuestion] | None = None


@dataclass(frozen=True)
class PairedTask:
    """A paired task.

    Args:
        name: its name.
        dataset: what a run is over, or another data set that serves semantic correspondence.
        subset: the subset of BLINK, "" for all questions.
        make: makes its questions.
        options: names of the options that belong to the task.
        metrics: the metrics of the values' answers.
    """

    name: str
    dataset: str
    subset: str
    make: Callable[..., PairedQuestions]
    options: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("value",)

    @property
    def spec(self) -> str:
        """The data set to extract."""
        return self.spec_over(self.dataset)

    def spec_over(self, dataset: str) -> str:
        """How a data set that serves the task is named to `kvtool extract`."""
        return f"{dataset}:PATH" + ("@val" if dataset == "blink" else "")


def semantic_correspondence(
    dataset: Any, ids: Sizes, subset: str, n: int | None, seed: int
) -> PairedQuestions:
    """Make questions of the pairs whose images the run holds, in the size that the pair's
    annotation says."""
    del subset
    pairs = dataset.pairs()
    left_out = LeftOut.of(dataset)
    complete = [pair for pair in pairs if {pair.src_id, pair.trg_id} <= ids.keys()]
    usable = left_out.usable(complete, lambda pair: check_pair(pair, ids))
    points = make_questions(usable, N_POINTS if n is None else n, seed)
    left_out.many(
        len(pairs) - len(complete), f"of {len(pairs)} pairs have an image that {NOT_HELD}"
    )
    return PairedQuestions(
        [point.question for point in points], PointCosine(tuple(points)), left_out, {}, points
    )


def compared_images(
    dataset: Any, ids: Sizes, subset: str, n: int | None, seed: int
) -> PairedQuestions:
    """Ask which option's image goes with the first one."""
    del seed
    questions, left_out = _of_subset(dataset, ids, subset, _is_of_several_images)
    usable = []
    images = []
    for question in questions:
        options = option_images(question)
        if options is None:
            left_out.bad(
                f"question {question.id}: its choices {list(question.choices)} do not name its "
                "images"
            )
            continue
        usable.append(question)
        images.append((question.image_ids[0], *(question.image_ids[index] for index in options)))
    return PairedQuestions(usable[:n], MeanCosine(tuple(images[:n])), left_out, {})


def option_images(question: Question) -> tuple[int, ...] | None:
    """Return the index of the image that each choice speaks of; None where that is not clear.

    A choice speaks of it by its ordinal, else in order after the first.
    """
    options = range(1, len(question.image_ids))
    # A choice may name its image: "the second image".
    pattern = rf"\b({'|'.join(ORDINALS)})\b"
    ordinals = [re.findall(pattern, choice.lower()) for choice in question.choices]
    indices = [ORDINALS.index(names[0]) for names in ordinals if len(names) == 1]
    is_distinct = len(indices) == len(ordinals) == len(set(indices))
    if indices and is_distinct and set(indices) <= set(options):
        return tuple(indices)
    if not any(ordinals) and len(question.choices) == len(options):
        return tuple(options)
    return None


def probed_image(
    dataset: Any,
    ids: Sizes,
    subset: str,
    n: int | None,
    seed: int,
    *,
    folds: int = FOLDS,
    c: float = C,
) -> PairedQuestions:
    """Ask A or B of one image. Raises UsageError where too few questions are left to train on."""
    questions, left_out = _of_subset(dataset, ids, subset, _is_of_one_image)
    usable = [question for question in questions if _is_of_one_image(question)]
    fit = {question.id for question in usable}
    for question in questions:
        if question.id not in fit:
            left_out.bad(f"question {question.id}: expected one image and two choices")
    usable = usable[:n]
    labels = [int(question.answer == "(B)") for question in usable]
    fewest = min(Counter(labels).values()) if len(set(labels)) == 2 else 0
    if usable and fewest < 2:
        raise UsageError(
            f"{subset or dataset.name}: expected two questions or more with each answer to train a "
            f"probe, found {labels.count(0)} with (A) and {labels.count(1)} with (B); extract more "
            "of them"
        )
    # Every fold must leave questions of both answers to train on.
    folds = min(folds, max(fewest, 2))
    fold_of_question = stratified_folds(labels, folds, seed)
    reading = LinearProbe(
        tuple(question.image_ids[0] for question in usable), tuple(labels), fold_of_question, c
    )
    return PairedQuestions(usable, reading, left_out, {"folds": folds, "c": c})


def _is_of_several_images(question: Question) -> bool:
    """Return whether a question is about several images."""
    return len(question.image_ids) > 1


def _is_of_one_image(question: Question) -> bool:
    """Return whether a question is about one image and has two choices."""
    return len(question.image_ids) == 1 and len(question.choices) == 2


HIDDEN_ANSWER = "its answer is hidden"
NOT_HELD = "the run does not hold"


def _of_subset(
    dataset: Any, ids: Sizes, subset: str, suits: Callable[[Question], bool]
) -> tuple[list[Question], LeftOut]:
    """Return a subset's questions whose images the run holds and whose answer is one of the
    choices.

    Without a subset, these are among the questions with choices that suit. A line for each of the
    others gives the reason.
    """
    usable = []
    listed = dataset.questions()
    left_out = LeftOut.of(dataset)
    for question in listed:
        if not (question.group == subset if subset else question.choices and suits(question)):
            continue
        letters = [f"({chr(ord('A') + index)})" for index in range(len(question.choices))]
        if absent := [image for image in question.image_ids if image not in ids]:
            left_out.absent(f"question {question.id}: {NOT_HELD} {', '.join(absent)}")
        elif not question.answer:
            left_out.absent(f"question {question.id}: {HIDDEN_ANSWER}")
        elif question.answer not in letters:
            left_out.bad(
                f"question {question.id}: expected an answer of {', '.join(letters)}, found "
                f"{question.answer!r}"
            )
        else:
            usable.append(question)
    return usable, left_out


PAIRED = {
    task.name: task
    for task in (
        PairedTask(
            "semantic-correspondence",
            "spair71k",
            "",
            semantic_correspondence,
            ("reading", "pictures"),
            ("value", "value_pck"),
        ),
        PairedTask("art-style", "blink", "Art_Style", compared_images),
        PairedTask("visual-similarity", "blink", "Visual_Similarity", compared_images),
        PairedTask("relative-depth", "blink", "Relative_Depth", probed_image, ("folds", "c")),
        PairedTask("image-choice", "own", "", compared_images),
        PairedTask("two-choice", "own", "", probed_image, ("folds", "c")),
    )
}


def tasks_over(dataset: DatasetBase) -> list[PairedTask]:
    """Return the tasks that may be put to a run over a data set."""
    return [
        task
        for task in PAIRED.values()
        if task.dataset == dataset.name or task.name in dataset.tasks
    ]


def paired_task(name: str) -> PairedTask:
    """Return a paired task. Raises UsageError that lists the tasks."""
    if name not in PAIRED:
        raise UsageError(f"paired: unknown task {name!r}; known: {', '.join(PAIRED)}")
    return PAIRED[name]


def serving_run(store: Store, task: PairedTask, name: str | None) -> Run:
    """Return the named run, or the only one that serves the task. Raises UsageError that says what
    to extract."""
    runs = [store.run(name)] if name is not None else store.readable_runs(lambda _: True)
    reasons = {run.name: reason for run in runs if (reason := _unfit(run, task)) is not None}
    serving = [run for run in runs if run.name not in reasons]
    if len(serving) == 1:
        return serving[0]
    if serving:
        listed = ", ".join(run.name for run in serving)
        raise UsageError(
            f"paired {task.name}: expected one run or a name (--run), found runs that serve it: "
            f"{listed}"
        )
    over = [reasons[run.name] for run in runs if run.config.dataset == task.dataset]
    problem = "; ".join(over or reasons.values()) or f"store {store.path} has no run"
    raise UsageError(
        f"paired {task.name}: {problem}; extract what it needs: "
        f"kvtool extract {store.path} --model M --dataset {task.spec}"
    )


def _unfit(run: Run, task: PairedTask) -> str | None:
    """Return why a run cannot serve a task; None for one that can."""
    config = run.config
    if config.dataset != task.dataset and task.name not in tasks_of(run):
        return f"run {run.name} is over {config.dataset}, not {task.dataset}"
    if config.dataset == "blink" and config.split == "test":
        return f"run {run.name} is over blink@test: answers hidden: use @val"
    if not config.model.geometry.layers:
        return f"run {run.name} is of {config.model.name}, an encoder that answers nothing"
    if config.prefix != "none":
        return (
            f"run {run.name} has text before its images (prefix {config.prefix}), which questions "
            "have not"
        )
    return None


def survey_paired(dataset: DatasetBase, sizes: Sizes) -> list[Served]:
    """Return what a data set serves of the paired tasks that may be put to a run over it, or one
    row that says none."""
    tasks = tasks_over(dataset)
    if not tasks:
        return [
            Served(
                "paired", unit="questions", missing=f"{dataset.name} has no pairs or choices for it"
            )
        ]
    return [_survey(dataset, sizes, task) for task in tasks]


def _survey(dataset: DatasetBase, sizes: Sizes, task: PairedTask) -> Served:
    """Return how many questions of one task a data set has, or why it has none."""
    what = f"paired {task.name}"
    if task.name not in dataset.tasks and (lacking := dataset.lacks(QUESTIONS)):
        return Served(what, unit="questions", missing=lacking)
    try:
        asked = task.make(dataset, sizes, task.subset, None, 0)
    except KvtoolError as error:
        return Served(what, unit="questions", missing=str(error))
    images = {image for question in asked.questions for image in question.image_ids}
    missing = "" if asked.questions else "no question of this kind"
    n = len(asked.questions)
    reasons = tuple(asked.left_out.lines)
    return Served(what, n, "questions", len(images), None, len(reasons), reasons, missing)

"""The paired tasks: which run serves one, its questions, and how the values are read.

Of BLINK the subsets whose answer the values alone can give: options that are images of their own
(by mean vectors), and A or B about one image (by a linear probe). See docs/decisions/paired.md for
the others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvtool.datasets.base import Question
from kvtool.errors import UsageError
from kvtool.experiments.paired.points import PointQuestion, make_questions
from kvtool.experiments.paired.readings import (
    LinearProbe,
    MeanCosine,
    PointCosine,
    Reading,
    stratified_folds,
)
from kvtool.store import Run, Store
from kvtool.tasks.semantic_correspondence import check_pair
from kvtool.tasks.truth import LeftOut, Sizes

ORDINALS = ("first", "second", "third", "fourth")
N_POINTS = 200
FOLDS = 5
C = 0.01
"""Inverse L2 strength of the linear probe: some hundred questions have about as many as a head has
channels."""


@dataclass(frozen=True)
class PairedQuestions:
    """The questions of a task over a run, how the values answer them, and a line for each that was
    left out.

    points: of semantic correspondence, each question's points; their pictures are marked before the
    model sees them. settings: options that the questions or the reading depend on.
    """

    questions: list[Question]
    reading: Reading
    skipped: list[str]
    settings: dict[str, Any]
    points: list[PointQuestion] | None = None


@dataclass(frozen=True)
class PairedTask:
    """dataset: what a run must be over. subset: of BLINK. options: names of those that are the
    task's own."""

    name: str
    dataset: str
    subset: str
    make: Callable[..., PairedQuestions]
    options: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("value",)

    @property
    def spec(self) -> str:
        """What to extract."""
        return f"{self.dataset}:PATH" + ("@val" if self.dataset == "blink" else "")


def semantic_correspondence(
    dataset: Any, ids: Sizes, subset: str, n: int | None, seed: int
) -> PairedQuestions:
    """Questions made of the pairs whose images the run holds, in the size that the pair's
    annotation says."""
    del subset
    pairs = dataset.pairs()
    left_out = LeftOut.of(dataset)
    held = [pair for pair in pairs if {pair.src_id, pair.trg_id} <= ids.keys()]
    usable = left_out.usable(held, lambda pair: check_pair(pair, ids))
    points = make_questions(usable, N_POINTS if n is None else n, seed)
    skipped = left_out.lines
    if len(held) < len(pairs):
        skipped.append(
            f"{len(pairs) - len(held)} of {len(pairs)} pairs have an image that the run does not "
            "hold"
        )
    return PairedQuestions(
        [each.question for each in points], PointCosine(tuple(points)), skipped, {}, points
    )


def compared_images(
    dataset: Any, ids: Sizes, subset: str, n: int | None, seed: int
) -> PairedQuestions:
    """Which option's image goes with the first one."""
    del seed
    questions, skipped = _of_subset(dataset, ids, subset)
    able = []
    images = []
    for question in questions:
        shown = option_images(question)
        if shown is None:
            skipped.append(
                f"question {question.id}: its choices {list(question.choices)} do not name its "
                "images"
            )
            continue
        able.append(question)
        images.append((question.image_ids[0], *(question.image_ids[index] for index in shown)))
    return PairedQuestions(able[:n], MeanCosine(tuple(images[:n])), skipped, {})


def option_images(question: Question) -> tuple[int, ...] | None:
    """Index of the image that each choice speaks of: by its ordinal, else in order after the first;
    None where that fits neither way."""
    others = range(1, len(question.image_ids))
    words = [
        re.findall(rf"\b({'|'.join(ORDINALS)})\b", choice.lower()) for choice in question.choices
    ]
    named = [ORDINALS.index(found[0]) for found in words if len(found) == 1]
    if named and len(named) == len(words) == len(set(named)) and set(named) <= set(others):
        return tuple(named)
    if not any(words) and len(question.choices) == len(others):
        return tuple(others)
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
    """A or B of one image. Raises UsageError where there are too few questions of either to leave a
    fold out."""
    questions, skipped = _of_subset(dataset, ids, subset)
    able = [each for each in questions if len(each.image_ids) == 1 and len(each.choices) == 2]
    fit = {each.id for each in able}
    skipped += [
        f"question {q.id}: expected one image and two choices" for q in questions if q.id not in fit
    ]
    able = able[:n]
    labels = [int(question.answer == "(B)") for question in able]
    fewest = min(Counter(labels).values()) if len(set(labels)) == 2 else 0
    if able and fewest < 2:
        raise UsageError(
            f"{subset}: expected two questions or more with each answer to train a probe, found "
            f"{labels.count(0)} with (A) and {labels.count(1)} with (B); extract more of them"
        )
    folds = min(folds, max(fewest, 2))
    of = stratified_folds(labels, folds, seed)
    reading = LinearProbe(tuple(q.image_ids[0] for q in able), tuple(labels), of, c)
    return PairedQuestions(able, reading, skipped, {"folds": folds, "c": c})


HIDDEN_ANSWER = "its answer is hidden"


def _of_subset(dataset: Any, ids: Sizes, subset: str) -> tuple[list[Question], list[str]]:
    """A subset's questions whose images the run holds and whose answer is one of the choices; the
    others' reasons."""
    kept = []
    skipped = [*dataset.notes, *dataset.skipped]
    for question in dataset.questions():
        if question.group != subset:
            continue
        letters = [f"({chr(ord('A') + index)})" for index in range(len(question.choices))]
        if lacking := [image for image in question.image_ids if image not in ids]:
            skipped.append(f"question {question.id}: the run does not hold {', '.join(lacking)}")
        elif not question.answer:
            skipped.append(f"question {question.id}: {HIDDEN_ANSWER}")
        elif question.answer not in letters:
            skipped.append(
                f"question {question.id}: expected an answer of {', '.join(letters)}, found "
                f"{question.answer!r}"
            )
        else:
            kept.append(question)
    return kept, skipped


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
    )
}


def paired_task(name: str) -> PairedTask:
    """Raises UsageError that lists the tasks."""
    if name not in PAIRED:
        raise UsageError(f"paired: unknown task {name!r}; known: {', '.join(PAIRED)}")
    return PAIRED[name]


def serving_run(store: Store, task: PairedTask, name: str | None) -> Run:
    """The named run, or the only one that serves the task. Raises UsageError that says what to
    extract."""
    runs = [store.run(name)] if name is not None else store.readable_runs(lambda _: True)
    why = {run.name: reason for run in runs if (reason := _unfit(run, task)) is not None}
    able = [run for run in runs if run.name not in why]
    if len(able) == 1:
        return able[0]
    if able:
        listed = ", ".join(run.name for run in able)
        raise UsageError(
            f"paired {task.name}: expected one run or a name (--run), found runs that serve it: "
            f"{listed}"
        )
    over = [
        reason for run in runs if run.config.dataset == task.dataset and (reason := why[run.name])
    ]
    found = "; ".join(over or why.values()) or f"store {store.path} has no run"
    raise UsageError(
        f"paired {task.name}: {found}; extract what it needs: "
        f"kvtool extract {store.path} --model M --dataset {task.spec}"
    )


def _unfit(run: Run, task: PairedTask) -> str | None:
    """Why a run cannot serve a task."""
    config = run.config
    if config.dataset != task.dataset:
        return f"run {run.name} is over {config.dataset}, not {task.dataset}"
    if task.dataset == "blink" and config.split == "test":
        return f"run {run.name} is over blink@test: answers hidden: use @val"
    if not config.model.geometry.layers:
        return f"run {run.name} is of {config.model.name}, an encoder that answers nothing"
    if config.prefix != "none":
        return f"run {run.name} has text before its images (prefix {config.prefix}), which questions have not"
    return None

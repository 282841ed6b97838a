"""The paired tasks: what each asks, and the run that serves it.

Of BLINK these are the subsets whose answer the values alone can give: options that are images of
their own (by mean vectors), and A or B about one image (by a linear probe). See
docs/decisions/paired.md for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvtool.asking.paired.questions import (
    PairedQuestions,
    compared_images,
    probed_image,
    semantic_correspondence,
)
from kvtool.datasets.base import QUESTIONS, DatasetBase
from kvtool.display import listing, shell_path
from kvtool.errors import KvtoolError, UsageError
from kvtool.store import Run, Store
from kvtool.store.descriptions import ways_to_choose
from kvtool.tasks.evaluation import tasks_of
from kvtool.tasks.survey import Served
from kvtool.tasks.truth import Sizes


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
EVIDENT = tuple(task.name for task in PAIRED.values() if task.make is not probed_image)
"""Tasks whose values say how much speaks for each option, without a probe that is trained."""


def tasks_over(dataset: DatasetBase) -> list[PairedTask]:
    """Return the tasks that may be put to a run over a data set."""
    return [
        task
        for task in PAIRED.values()
        if task.dataset == dataset.name or task.name in dataset.tasks
    ]


def paired_task(name: str, command: str = "paired") -> PairedTask:
    """Return a paired task. Raises UsageError that lists the tasks of a command."""
    if name not in PAIRED:
        names = EVIDENT if command == "surface" else PAIRED
        raise UsageError(f"{command}: unknown task {name!r}; known: {', '.join(names)}")
    return PAIRED[name]


def serving_run(store: Store, task: PairedTask, name: str | None, command: str = "paired") -> Run:
    """Return the named run, or the only one that serves the task. Raises UsageError that names the
    command and says what to extract."""
    runs = [store.run(name)] if name is not None else store.readable_runs(lambda _: True)
    reasons = {run.name: reason for run in runs if (reason := _unfit(run, task)) is not None}
    serving = [run for run in runs if run.name not in reasons]
    # Exactly one run is unambiguous; several must be told apart by name.
    if len(serving) == 1:
        return serving[0]
    if serving:
        names = listing([run.name for run in serving])
        raise UsageError(
            f"{command} {task.name}: expected one run or a name "
            f"({ways_to_choose(store.address)}), found runs that serve it: {names}"
        )
    # Runs over the task's data set come nearest: their reasons help more than others'.
    over = [reasons[run.name] for run in runs if run.config.dataset == task.dataset]
    problem = "; ".join(over or reasons.values()) or f"store {store.address} has no run"
    raise UsageError(
        f"{command} {task.name}: {problem}; extract what it needs: "
        f"kvtool extract {shell_path(store.address)} --model M --dataset {task.spec}"
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
    # Text before an image changes its keys and values: the task's prompts have none.
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
    if task.name not in dataset.tasks and (lack := dataset.lacks(QUESTIONS)):
        return Served(what, unit="questions", missing=lack)
    try:
        paired = task.make(dataset, sizes, task.subset, None, 0)
    except KvtoolError as error:
        return Served(what, unit="questions", missing=str(error))
    images = {image for question in paired.questions for image in question.image_ids}
    absence = "" if paired.questions else "no question of this kind"
    n = len(paired.questions)
    reasons = tuple(paired.left_out.lines)
    return Served(what, n, "questions", len(images), None, len(reasons), reasons, absence)

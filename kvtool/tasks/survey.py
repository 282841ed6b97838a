"""What a data set serves, and what is missing: every task is set up on its pictures as a probe
would set it up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any

from kvtool.asking.benchmarks import unaskable
from kvtool.datasets.base import PREFIX_CONDITIONS, DatasetBase
from kvtool.datasets.images import read_size
from kvtool.datasets.protocols import (
    HasCaptions,
    HasConcepts,
    HasEpisodes,
    HasGroups,
    HasLabelMaps,
    HasQuestions,
)
from kvtool.datasets.records import CAPTIONS, CONCEPTS, QUESTIONS
from kvtool.engine.prefixes import prefix_texts
from kvtool.errors import DatasetError, ImageError, KvtoolError
from kvtool.tasks import TASKS, lack_of
from kvtool.tasks.blocks import torch_device
from kvtool.tasks.truth import Size, Sizes, check_shape

UNITS = {
    "foreground-segmentation": "episodes",
    "co-segmentation": "masks",
    "semantic-segmentation": "masks",
    "referring-expression": "expressions",
    "semantic-correspondence": "pairs",
    "temporal-correspondence": "objects",
}
CLASSES: dict[str, Callable[[Any], int]] = {
    "foreground-segmentation": lambda data: len({entry.class_id for entry in data.entries()}),
    "co-segmentation": lambda data: len(data.groups()),
    "semantic-segmentation": lambda data: len(data.class_texts()),
}
"""How many classes a data set has for a task, where it is about classes."""
WITH_CLASSES = (HasEpisodes, HasGroups, HasLabelMaps)


@dataclass(frozen=True)
class Served:
    """One thing that a data set may serve.

    n: how many `unit`s of it can be used, on how many `images`, of how many `classes` where there
    are any. left_out: how many cannot; reasons: a line for each, or for many. missing: why nothing
    of it is served, "" where something is.
    """

    what: str
    n: int = 0
    unit: str = ""
    images: int | None = None
    classes: int | None = None
    left_out: int = 0
    reasons: tuple[str, ...] = ()
    missing: str = ""

    def row(self) -> dict[str, Any]:
        """As it is printed: the first reason stands for all."""
        reasons = self.reasons[:1]
        return {
            "what": self.what,
            "served": not self.missing,
            **asdict(self),
            "reasons": list(reasons),
        }


@dataclass(frozen=True)
class ReadPictures:
    """The pictures of a data set that can be read, with their sizes; `failed`: why others cannot,
    by id.
    """

    sizes: dict[str, Size]
    failed: dict[str, str]


def read_pictures(
    dataset: DatasetBase, progress: Callable[..., None] | None = None
) -> ReadPictures:
    """Look at every picture of a data set. Raises DatasetError where none is there."""
    sizes, failed = {}, {}
    # A picture that cannot be read is missing for every task.
    for ref in dataset.images():
        try:
            sizes[ref.id] = read_size(ref)
        except ImageError as error:
            failed[ref.id] = str(error)
        if progress is not None:
            progress(1, ref.id)
    return ReadPictures(sizes, failed)


def survey(dataset: DatasetBase, pictures: ReadPictures) -> list[Served]:
    """What a data set serves: its pictures, texts, captions and concepts, each task, knockout and
    the prefixes.
    """
    reasons = [*dataset.skipped, *pictures.failed.values()]
    n = len(pictures.sizes)
    absence = "" if n else "no picture can be read"
    return [
        Served("images", n, "images", n, None, len(reasons), tuple(reasons), absence),
        _texts(dataset),
        _captions(dataset, pictures.sizes),
        _concepts(dataset, pictures.sizes),
        *(_task(dataset, name, pictures.sizes) for name in TASKS.names()),
        _knockout(dataset, pictures),
        *(_prefix(dataset, condition, pictures.sizes) for condition in PREFIX_CONDITIONS),
    ]


def _texts(dataset: DatasetBase) -> Served:
    try:
        n = len(dataset.texts())
    except KvtoolError as error:
        return _damaged("texts", "texts", error, dataset.skipped)
    absence = "" if n else "no class names, expressions or captions"
    return Served("texts", n, "texts", missing=absence)


def _captions(dataset: DatasetBase, sizes: Sizes) -> Served:
    """Sentences about pictures."""
    lack = dataset.lacks(CAPTIONS)
    if lack or not isinstance(dataset, HasCaptions):
        return Served(CAPTIONS, unit="sentences", missing=lack)
    try:
        captions = dataset.captions()
    except KvtoolError as error:
        return _damaged(CAPTIONS, "sentences", error, dataset.skipped)
    # Only sentences of pictures that can be read are of use.
    counts = [len(captions[image_id]) for image_id in sizes if image_id in captions]
    reasons = tuple(dict.fromkeys(dataset.skipped))
    absence = "" if counts else "no sentence about a picture that can be read"
    return Served(
        CAPTIONS, sum(counts), "sentences", len(counts), None, len(reasons), reasons, absence
    )


def _concepts(dataset: DatasetBase, sizes: Sizes) -> Served:
    """Words of what pictures show, with masks: each mask that shows its concept counts."""
    lack = dataset.lacks(CONCEPTS)
    if lack or not isinstance(dataset, HasConcepts):
        return Served(CONCEPTS, unit="masks", missing=lack)
    try:
        n_concepts = len(dataset.concepts())
    except KvtoolError as error:
        return _damaged(CONCEPTS, "masks", error, dataset.skipped)
    before = set(dataset.skipped)
    mask_counts: dict[str, int] = {}
    reasons = []
    # Masks are checked against the pictures' sizes, as a task would.
    for image_id, wh_px in sizes.items():
        try:
            masks = dataset.concept_masks(image_id)
            for concept, mask in masks.items():
                check_shape(mask, wh_px, f"{dataset.name}: {image_id}: {concept}")
        except DatasetError as error:
            reasons.append(str(error))
        else:
            mask_counts[image_id] = sum(bool((mask == 1).any()) for mask in masks.values())
    # Reading masks may leave out more than it raises: what came to `skipped` meanwhile counts too.
    reasons = list(dict.fromkeys([*reasons, *(x for x in dataset.skipped if x not in before)]))
    n_masks = sum(mask_counts.values())
    absence = "" if n_masks else "no picture with a mask of a concept"
    n_images = sum(count > 0 for count in mask_counts.values())
    return Served(
        CONCEPTS, n_masks, "masks", n_images, n_concepts, len(reasons), tuple(reasons), absence
    )


def _task(dataset: DatasetBase, name: str, sizes: Sizes) -> Served:
    """A task with its own options, over all pictures as if a run held them."""
    unit = UNITS.get(name, "units")
    lack = lack_of(dataset, name)
    if lack:
        return Served(name, unit=unit, missing=lack)
    # A data set that lacks something serves the other tasks nevertheless.
    try:
        task, unit = _made(dataset, name, sizes, unit)
    except KvtoolError as error:
        return _damaged(name, unit, error, dataset.skipped)
    count = CLASSES.get(name) if isinstance(dataset, WITH_CLASSES) else None
    classes = None if count is None else count(dataset)
    reasons = tuple(dict.fromkeys(task.skipped))
    return Served(name, task.n, unit, len(task.images()), classes, task.n_skipped, reasons)


def _made(dataset: DatasetBase, name: str, sizes: Sizes, unit: str) -> tuple[Any, str]:
    """The task and its units; where no class has pictures enough for its own number of shots, those
    of one shot.
    """
    make, device = TASKS.load(name), torch_device("cpu")
    try:
        return make(dataset, sizes, device), unit
    except KvtoolError:
        if "shots" not in signature(make).parameters:
            raise
        return make(dataset, sizes, device, shots=1), f"{unit} of 1 shot"


def _damaged(what: str, unit: str, error: KvtoolError, skipped: Sequence[str]) -> Served:
    """Something that is there, and of which nothing can be used."""
    reasons = tuple(dict.fromkeys([str(error), *skipped]))
    return Served(what, unit=unit, left_out=len(reasons), reasons=reasons, missing=str(error))


def _knockout(dataset: DatasetBase, pictures: ReadPictures) -> Served:
    """Questions that can be asked from one stored cache."""
    lack = dataset.lacks(QUESTIONS)
    if lack or not isinstance(dataset, HasQuestions):
        return Served("knockout", unit="questions", missing=lack)
    try:
        questions = dataset.questions()
    except KvtoolError as error:
        return _damaged("knockout", "questions", error, dataset.skipped)
    # Each question that cannot be asked has its reason.
    refusals = {question.id: unaskable(question, pictures.failed) for question in questions}
    askable = [question for question in questions if not refusals[question.id]]
    # Those about several images are for the paired tasks, and not amiss.
    amiss = [
        f"question {q.id}: {refusals[q.id]}"
        for q in questions
        if refusals[q.id] and len(q.image_ids) == 1
    ]
    reasons = (*dataset.skipped, *amiss)
    images = len({question.image_ids[0] for question in askable})
    absence = "" if askable else "no question about one image, with a public answer"
    return Served(
        "knockout", len(askable), "questions", images, None, len(reasons), reasons, absence
    )


def _prefix(dataset: DatasetBase, condition: str, sizes: Sizes) -> Served:
    """A text before each image."""
    what = f"prefix {condition}"
    if condition not in dataset.conditions:
        offered = ", ".join(dataset.conditions)
        return Served(what, unit="texts", missing=f"{dataset.name} offers {offered}")
    refs = [ref for ref in dataset.images() if ref.id in sizes]
    try:
        texts = prefix_texts(condition, dataset, refs)
    except KvtoolError as error:  # captions, say, may be left out
        return Served(what, unit="texts", missing=str(error))
    n = sum(text is not None for text in texts)
    return Served(what, n, "texts", n)


def all_left_out(served: Sequence[Served]) -> list[str]:
    """The reasons of all, each once."""
    return list(dict.fromkeys(reason for entry in served for reason in entry.reasons))

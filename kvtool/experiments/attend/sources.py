"""What `kvtool attend` asks, as the command line and Python name it: a question, a benchmark, or
RefCOCO's sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvtool.asking.benchmarks import open_benchmark
from kvtool.asking.caches import holding_run, unanswerable
from kvtool.asking.inquiries import (
    CONCEPT,
    Inquiry,
    Things,
    inquiries_of_expressions,
    inquiries_of_question,
    inquiries_of_questions,
)
from kvtool.asking.wording import Wording
from kvtool.datasets.base import DatasetBase
from kvtool.datasets.identity import dataset_of
from kvtool.datasets.protocols import HasExpressions, HasQuestions
from kvtool.errors import KvtoolError, UsageError
from kvtool.pictures.files import check_images
from kvtool.progress import Progress
from kvtool.store import Run, open_store

DESCRIBE = "Describe this image."
"""What is asked where sinks are looked for and nothing is named: they are there for any text."""


@dataclass(frozen=True)
class AttendRequest:
    """What is asked of which pictures; see kvtool.attend.

    Attributes:
        question: A text of the user's.
        images: Ids of pictures; None for all.
        benchmark: A benchmark's name and place.
        expressions: Whether RefCOCO's sentences are asked.
        limit: The number of pictures.
        data: The place of the run's data set, if it moved.
    """

    question: str | None
    images: Sequence[str] | None
    benchmark: str | None
    expressions: bool
    limit: int | None
    data: str | Path | None

    def check(self) -> None:
        """Raise UsageError unless one thing is asked."""
        sources = {
            "--question": self.question is not None,
            "--benchmark": self.benchmark is not None,
            "--expressions": self.expressions,
        }
        flags = [flag for flag, is_given in sources.items() if is_given]
        if len(flags) != 1:
            raise UsageError(
                f"attend: expected one of {', '.join(sources)}, found "
                f"{' and '.join(flags) or 'none'}"
            )
        if self.question is None:
            return
        if not isinstance(self.question, str):
            raise UsageError(f"--question: expected a text, found {self.question!r}")
        if not self.question.strip():
            raise UsageError("--question: expected a text, found an empty one")

    def settings(self) -> dict[str, Any]:
        """Return what a result says of the request."""
        return {
            "question": self.question,
            "image": None if self.images is None else list(self.images),
            "benchmark": self.benchmark,
            "expressions": self.expressions,
            "limit": self.limit,
        }


@dataclass
class AttendTexts:
    """What is asked of a run, and what was left out of it.

    Attributes:
        run: The run that holds the pictures.
        inquiries: The texts.
        truth: The data set of their objects; None where there are none.
        skipped: Lines of what was left out.
        notes: What the user should know.
        sentences: RefCOCO, where its sentences are asked.
    """

    run: Run
    inquiries: list[Inquiry]
    truth: DatasetBase | None
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sentences: HasExpressions | None = None


def asking_of(
    run: Run, request: AttendRequest, model: str | None, device: str, progress: Progress
) -> AttendTexts:
    """Return what a request asks; pictures of a benchmark that no run holds are extracted first.

    Raises UsageError for ids that the run does not hold, and where nothing can be asked.
    """
    if request.images is not None:
        check_images(run, request.images, "attend")
    if request.benchmark is not None:
        asking = _of_benchmark(run, request, model, device, progress)
    else:
        asking = _of_run(run, request)
    if not asking.inquiries:
        raise KvtoolError(
            f"attend: expected texts about pictures of run {asking.run.name}, found none: "
            f"{(asking.skipped or ['the data set has none about them'])[0]}"
        )
    asking.inquiries = _distinct(asking.inquiries)
    return asking


def _of_run(run: Run, request: AttendRequest) -> AttendTexts:
    """Return the sentences of the run's data set, or a question about its pictures."""
    images = (request.images or run.ids)[: request.limit]
    if request.expressions:
        dataset = dataset_of(run, request.data)
        if not isinstance(dataset, HasExpressions):
            raise UsageError(
                f"--expressions: expected a run over a data set of sentences about objects, such "
                f"as refcoco, found {run.config.dataset}; ask with --question"
            )
        inquiries = inquiries_of_expressions(dataset, images)
        skipped = list(dataset.skipped)
        return AttendTexts(run, inquiries, dataset, skipped, sentences=dataset)
    things, notes = _things(run, request)
    if CONCEPT in str(request.question) and not things.has_masks:
        raise UsageError(
            f"--question: expected a run over a data set with masks of things to put in place of "
            f"{CONCEPT}, found {run.config.dataset}{''.join(f': {note}' for note in notes)}"
        )
    inquiries = inquiries_of_question(run, str(request.question), images, things)
    has_masks = any(inquiry.mask for inquiry in inquiries)
    return AttendTexts(run, inquiries, things.dataset if has_masks else None, things.skipped, notes)


def _of_benchmark(
    base: Run, request: AttendRequest, model: str | None, device: str, progress: Progress
) -> AttendTexts:
    """Return a benchmark's questions about pictures that are there."""
    _, dataset = open_benchmark(str(request.benchmark))
    assert isinstance(dataset, HasQuestions)  # as open_benchmark chose it
    questions = dataset.questions()
    subjects = {image for question in questions for image in question.image_ids}
    if request.images is not None:
        subjects &= set(request.images)
    # The limit counts pictures that are asked about, not those of the data set.
    refs = [ref for ref in dataset.images() if ref.id in subjects][: request.limit]
    ids = {ref.id for ref in refs}
    run, failed = holding_run(open_store(base.store), base, model, dataset, refs, device, progress)
    failed |= unanswerable(run, ids)
    askable = [question for question in questions if set(question.image_ids) <= ids]
    things, notes = _things(run, request)
    inquiries, skipped = inquiries_of_questions(run, askable, failed, Wording(), things)
    has_masks = any(inquiry.mask for inquiry in inquiries)
    skipped += [*things.skipped, *dataset.skipped]
    return AttendTexts(run, inquiries, things.dataset if has_masks else None, skipped, notes)


def _things(run: Run, request: AttendRequest) -> tuple[Things, list[str]]:
    """Return the things that the pictures of a run show, as far as its data set is there."""
    try:
        return Things(dataset_of(run, request.data)), []
    except KvtoolError as error:
        if request.data is not None:
            raise
        return Things(None), [f"without the masks of objects: {error}"]


def _distinct(inquiries: Sequence[Inquiry]) -> list[Inquiry]:
    """Return inquiries whose ids are all different: the first of equal ones."""
    by_id: dict[str, Inquiry] = {}
    for inquiry in inquiries:
        by_id.setdefault(inquiry.id, inquiry)
    return list(by_id.values())

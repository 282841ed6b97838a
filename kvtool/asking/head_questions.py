"""The questions of a benchmark made ready to be asked under conditions of heads: whose heads, whose
caches, and which questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvtool.asking.benchmarks import open_benchmark, unaskable
from kvtool.asking.caches import find_base, holding_run, unanswerable
from kvtool.asking.head_sources import HeadSource
from kvtool.asking.head_work import HeadWork
from kvtool.asking.heads import HeadCondition, HeadSet
from kvtool.asking.wording import Wording
from kvtool.datasets.base import DatasetBase, ImageRef, Question
from kvtool.datasets.protocols import HasQuestions
from kvtool.errors import KvtoolError, UsageError
from kvtool.layers import resolve_layers
from kvtool.progress import Progress
from kvtool.store import Run, Store
from kvtool.types import Geometry, Precision

Conditions = Callable[
    [HeadSet, Geometry, tuple[int, ...] | None], tuple[list[HeadCondition], list[str]]
]
"""Returns the conditions of some heads, and notes; in some layers, or all."""


@dataclass(frozen=True)
class HeadPlan:
    """The heads that are asked for and the controls to draw, as in knockout.

    Attributes:
        command: What asks.
        conditions: What is made of the heads.
    """

    command: str
    source: HeadSource
    layers: str | Sequence[int] | None
    controls: Sequence[str]
    draws: int
    seed: int
    conditions: Conditions

    def layers_of(self, run: Run) -> tuple[int, ...] | None:
        """Return the layers concerned as numbers; None for all."""
        return resolve_layers(self.layers, run.config.model.geometry.layers)


@dataclass(frozen=True)
class Asking:
    """Where and how the questions are asked, as in knockout."""

    store: Store
    model: str | None
    device: str
    max_new_tokens: int
    limit: int | None
    official: bool
    progress: Progress
    wording: Wording
    dtype: Precision | None


def prepare(spec: str, run_name: str | None, plan: HeadPlan, asking: Asking) -> HeadWork:
    """Determine the run, the questions and the conditions; extract images that no run holds."""
    benchmark, dataset = open_benchmark(spec)
    if asking.official and not benchmark.is_official:
        raise UsageError(
            f"--official: expected pope or mme, found {dataset.name}, which has no such files: "
            "--answers"
        )
    store = asking.store
    # Whose heads are blocked: heads that are named belong to a run over the benchmark, if any.
    base = find_base(store, run_name, asking.model, None if plan.source.of_variance else dataset)
    refs = limited_pictures(dataset, asking.limit)
    extraction = (asking.model, dataset, refs, asking.device, asking.progress)
    if base is None:
        base, _ = holding_run(store, None, *extraction)
    # Conditions depend on whose heads they are: they are made before the questions are known.
    heads, head_notes = plan.source.of(base)
    geometry = base.config.model.geometry
    conditions, notes = plan.conditions(heads, geometry, plan.layers_of(base))
    # Whose caches answer: a run over the benchmark's pictures, of the same model and settings.
    holding, failed = holding_run(store, base, *extraction)
    failed |= unanswerable(holding, {ref.id for ref in refs})
    questions, skipped = _split(dataset, refs, failed)
    work = HeadWork(
        command=plan.command,
        store=store,
        run=holding,
        benchmark=benchmark,
        dataset=dataset,
        refs=tuple(refs),
        questions=tuple(map(asking.wording.of, questions)),
        conditions=tuple(conditions),
        skipped=tuple(skipped),
        notes=(*head_notes, *notes),
        seed=plan.seed,
    )
    settings = _settings(spec, base, plan, asking)
    return replace(work, settings=work.config() | settings)


def _settings(
    spec: str,
    base: Run,
    plan: HeadPlan,
    asking: Asking,
) -> dict[str, Any]:
    """Return the settings as its result names them."""
    layers = plan.layers_of(base)
    return {
        "benchmark": spec,
        "heads": plan.source.name,
        "threshold": plan.source.threshold,
        "heads_run": base.name,
        "layers": None if layers is None else list(layers),
        "controls": list(plan.controls),
        "draws": plan.draws,
        "seed": plan.seed,
        **asking.wording.settings(),
        "question_dtype": asking.dtype,
        "max_new_tokens": asking.max_new_tokens,
        "limit": asking.limit,
    }


def limited_pictures(dataset: DatasetBase, limit: int | None) -> Sequence[ImageRef]:
    """Return the pictures of a data set up to the last one that a question is about; of at most
    `limit` pictures that can be asked about, where some can.

    Pictures before it that only other questions are about stay: a run is extracted from the start.
    """
    questions = _questions(dataset)
    askable = {question.image_ids[0] for question in questions if not unaskable(question, {})}
    subjects = {question.image_ids[0] for question in questions}
    if limit is not None:
        subjects = askable or subjects
    refs = dataset.images()
    positions = [position for position, ref in enumerate(refs) if ref.id in subjects][:limit]
    return refs[: positions[-1] + 1] if positions else refs[:0]


def _questions(dataset: DatasetBase) -> list[Question]:
    assert isinstance(dataset, HasQuestions)  # as open_benchmark chose it
    return dataset.questions()


def _split(
    dataset: DatasetBase, refs: Sequence[ImageRef], failed: Mapping[str, str]
) -> tuple[list[Question], list[str]]:
    """Return the questions that can be asked, and a line for each that cannot. Raises KvtoolError
    where none remains."""
    ids = {ref.id for ref in refs}
    # Questions about pictures beyond the limit are not skipped: they were not meant.
    questions = []
    skipped = []
    for question in _questions(dataset):
        if question.image_ids[0] not in ids:
            continue
        if reason := unaskable(question, failed):
            skipped.append(f"question {question.id}: {reason}")
        else:
            questions.append(question)
    skipped += dataset.skipped
    if not questions:
        first = f": {skipped[0]}" if skipped else ""
        raise KvtoolError(
            f"{dataset.name} {dataset.root}: expected questions about images that are there, "
            f"found none{first}"
        )
    return questions, skipped

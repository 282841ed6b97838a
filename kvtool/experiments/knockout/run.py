"""`kvtool knockout`: a benchmark's questions with text blocked from the image in chosen heads.

See the paper, section 3.2. Image tokens never see the question, so that one stored prefill serves
every question under every condition; see kvtool.models.knockout for what is blocked,
kvtool.asking.heads for the conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtool.asking.answer_files import check_answers
from kvtool.asking.answering import Answerer
from kvtool.asking.benchmarks import open_benchmark, unaskable
from kvtool.asking.caches import find_base, holding_run, unanswerable
from kvtool.asking.heads import make_conditions
from kvtool.asking.wording import Wording
from kvtool.bounds import checked
from kvtool.datasets.base import DatasetBase, ImageRef, Question
from kvtool.datasets.protocols import HasQuestions
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.knockout.each import single_heads
from kvtool.experiments.knockout.each_beside import with_others
from kvtool.experiments.knockout.sources import ALL, Heads, HeadSource
from kvtool.experiments.knockout.work import KnockoutWork
from kvtool.layers import resolve_layers
from kvtool.progress import Progress, called
from kvtool.result import Result, result_key
from kvtool.store import Run, Store
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.select import Target, select_store
from kvtool.store.shares import sharing
from kvtool.types import Precision

MAX_NEW_TOKENS = 16
SINGLE_HEADS = {"each": True, "algorithm": ALGORITHMS["knockout-each"], "conditions": []}
"""Settings of every head alone, in place of those of conditions."""


@checked
def knockout(
    target: Target,
    benchmark: str,
    heads: Heads | None = None,
    *,
    each_head: bool = False,
    threshold: float | None = None,
    layers: str | Sequence[int] | None = None,
    controls: Sequence[str] = (),
    draws: int = 1,
    style: str = "plain",
    after_question: str = "",
    question_dtype: Precision | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    limit: int | None = None,
    answers: str | Path | None = None,
    official: str | Path | None = None,
    run: str | None = None,
    model: str | None = None,
    device: str = "auto",
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
) -> Result:
    """Score a benchmark under no knockout, the chosen heads, their early, middle and late parts,
    and controls; or, with `each_head`, under every head alone.

    Questions whose image is not there, and those without an answer under some condition, are left
    out of all and counted in n_skipped. Raises UsageError for heads out of range or none,
    ModelError where the run's model is not there, KvtoolError where no question remains; where
    other processes still hold images, UnfinishedError if this process asked about some, else
    BusyError.

    Args:
        target: the store, or the run whose model, prefix and view are used. Images that no such run
            holds are extracted first.
        benchmark: pope:PATH, mme:PATH[@all], scenes, scenes@mme, or any data set with questions
            about one image each, e.g. own:PATH.
        heads: "agnostic" (input-agnostic keys of the run, by their variance), "lowest:N" (the N
            keys of the lowest variance), "all", heads by layer and number such as "3:1,4:0", KV
            heads of all layers such as "0-3,5", a file of JSON lines, "-" for standard input, or
            rows with layer and kv_head, or (layer, kv_head) pairs.
        each_head: whether every head is blocked alone, all in one pass over the questions, in place
            of `heads`: a row for each head with the change of accuracy and of the answer's margin.
            Only questions with options have margins.
        threshold: of "agnostic": the variance below which keys are input-agnostic, by default the
            valley between the two modes of the run's variances.
        layers: early, middle, late, last:N or numbers; blocks only there.
        controls: "dependent" and "random": as many heads in the same layers.
        draws: how often each control is drawn.
        style: whose wording the questions have: "plain" (the benchmark's own), "lmms-eval" or
            "vlmevalkit".
        after_question: a text put after every question, on a line of its own.
        question_dtype: the precision in which questions are answered from the stored caches, by
            default the run's; "float32" rounds the least.
        max_new_tokens: the most tokens of an answer.
        limit: the number of images, by default all.
        answers: a file for the answers, see answer_files.
        official: a folder for the answers as the benchmark's script reads them.
        run: the name of a run, where the target is a store.
        model: the place of the run's model, if its name does not say it.
        device: the device of the model.
        seed: the random seed of controls and intervals.
        fresh: whether everything is asked and scored again; else an interrupted call goes on.
        wait_s: how long to wait for images that other processes ask about, once all others are
            done.
        progress: called with 1 and a note for each image, and once with their number;
            True shows a bar.
    """
    store, run_name = select_store(target, run, create=model is not None)
    if max_new_tokens < 1 or (limit is not None and limit < 1):
        raise UsageError("knockout: expected max_new_tokens and limit of 1 or more")
    check_answers(answers, official)
    options = {"controls": controls, "answers": answers, "official": official}
    source = HeadSource.parse(_blocked(heads, each_head, options), threshold)
    blocking = Blocking(source, layers, controls, draws, seed)
    asking = Asking(
        store=store,
        model=model,
        device=device,
        max_new_tokens=max_new_tokens,
        limit=limit,
        official=official is not None,
        progress=called(progress),
        wording=Wording(style, after_question),
        dtype=question_dtype,
    )
    work = _prepare(benchmark, run_name, blocking, asking)
    if each_head:
        work = replace(work, settings=work.settings | SINGLE_HEADS)
    key = result_key(work.settings)
    rereads = not (fresh or answers or official)
    if rereads and (stored := store.kept(key, Result.from_json)) is not None:
        return with_others(stored, store, key)
    with sharing(wait_s) as share:
        answerer = Answerer(
            store, work.run, model, device, max_new_tokens, fresh, share=share, dtype=question_dtype
        )
        if each_head:
            result = single_heads(work, answerer, asking.progress)
        else:
            work, conditions = work.answered(work.ask(answerer, asking.progress))
            result = work.result(conditions)
            work.write(conditions, answers, official)
    store.keep(key, result.to_json())
    return with_others(result, store, key)


def _blocked(heads: Heads | None, each_head: bool, options: Mapping[str, Any]) -> Heads:
    """Return the heads to block, of every head alone all. Raises UsageError where there is none,
    and for options that every head alone has no use for.
    """
    if not each_head:
        if heads is None:
            raise UsageError("knockout: expected --heads or --each, found neither")
        return heads
    needless = {"heads": heads is not None} | dict(options)
    if names := [name for name, value in needless.items() if value]:
        raise UsageError(f"--each: expected no --{names[0]} beside it; leave one out")
    return ALL


@dataclass(frozen=True)
class Blocking:
    """The heads to block and the controls to draw, as in knockout."""

    source: HeadSource
    layers: str | Sequence[int] | None
    controls: Sequence[str]
    draws: int
    seed: int

    def layers_of(self, run: Run) -> tuple[int, ...] | None:
        """Return the layers to block in as numbers; None for all."""
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


def _prepare(spec: str, run_name: str | None, blocking: Blocking, asking: Asking) -> KnockoutWork:
    """Determine the run, the questions and the conditions; extract images that no run holds."""
    benchmark, dataset = open_benchmark(spec)
    if asking.official and not benchmark.is_official:
        raise UsageError(
            f"--official: expected pope or mme, found {dataset.name}, which has no such files: "
            "--answers"
        )
    store = asking.store
    # Whose heads are blocked: heads that are named belong to a run over the benchmark, if any.
    base = find_base(
        store, run_name, asking.model, None if blocking.source.of_variance else dataset
    )
    refs = _pictures(dataset)[: asking.limit]
    extraction = (asking.model, dataset, refs, asking.device, asking.progress)
    if base is None:
        base, _ = holding_run(store, None, *extraction)
    heads, head_notes = blocking.source.of(base)
    geometry = base.config.model.geometry
    drawing = (blocking.controls, blocking.draws, blocking.seed)
    conditions, notes = make_conditions(heads, geometry, blocking.layers_of(base), *drawing)
    # Whose caches answer: a run over the benchmark's pictures, of the same model and settings.
    holding, failed = holding_run(store, base, *extraction)
    failed |= unanswerable(holding, {ref.id for ref in refs})
    questions, skipped = _split(dataset, refs, failed)
    work = KnockoutWork(
        store=store,
        run=holding,
        benchmark=benchmark,
        dataset=dataset,
        refs=tuple(refs),
        questions=tuple(map(asking.wording.of, questions)),
        conditions=tuple(conditions),
        skipped=tuple(skipped),
        notes=(*head_notes, *notes),
        seed=blocking.seed,
    )
    settings = _settings(spec, base, blocking, asking)
    return replace(work, settings=work.config() | settings)


def _settings(
    spec: str,
    base: Run,
    blocking: Blocking,
    asking: Asking,
) -> dict[str, Any]:
    """Return the settings of a knockout as its result names them."""
    layers = blocking.layers_of(base)
    return {
        "benchmark": spec,
        "heads": blocking.source.name,
        "threshold": blocking.source.threshold,
        "heads_run": base.name,
        "layers": None if layers is None else list(layers),
        "controls": list(blocking.controls),
        "draws": blocking.draws,
        "seed": blocking.seed,
        **asking.wording.settings(),
        "question_dtype": asking.dtype,
        "max_new_tokens": asking.max_new_tokens,
        "limit": asking.limit,
    }


def _pictures(dataset: DatasetBase) -> Sequence[ImageRef]:
    """Return the pictures of a data set up to the last one that a question is about."""
    subjects = {question.image_ids[0] for question in _questions(dataset)}
    refs = dataset.images()
    last = max((position for position, ref in enumerate(refs) if ref.id in subjects), default=-1)
    return refs[: last + 1]


def _questions(dataset: DatasetBase) -> list[Question]:
    assert isinstance(dataset, HasQuestions)  # as open_benchmark chose it
    return dataset.questions()


def _split(
    dataset: DatasetBase, refs: Sequence[ImageRef], failed: Mapping[str, str]
) -> tuple[list[Question], list[str]]:
    """Return the questions that can be asked, and a line for each that cannot. Raises KvtoolError
    where none remains."""
    ids = {ref.id for ref in refs}
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

"""`kvtool knockout`: a benchmark's questions with text blocked from the image in chosen heads.

See the paper, section 3.2. Image tokens never see the question, so that one stored prefill serves
every question under every condition; see kvtool.models.knockout for what is blocked,
kvtool.asking.heads for the conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtool.asking.answer_files import check_answers
from kvtool.asking.answering import Answerer
from kvtool.asking.benchmarks import open_benchmark, unaskable
from kvtool.asking.caches import WAIT_S, find_base, holding_run, unanswerable
from kvtool.asking.heads import (
    HeadSet,
    Row,
    head_set,
    make_conditions,
    read_rows,
)
from kvtool.bounds import checked
from kvtool.datasets.base import DatasetBase, ImageRef, Question
from kvtool.datasets.protocols import HasQuestions
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.knockout.work import KnockoutWork
from kvtool.features.variances import kept_variances
from kvtool.layers import parse_numbers, resolve_layers
from kvtool.progress import Progress, called
from kvtool.result import Result, result_key
from kvtool.store import Run, Store
from kvtool.store.select import Target, select_store
from kvtool.store.shares import sharing

MAX_NEW_TOKENS = 16


HeadSource = str | Path | Iterable[Mapping[str, Any] | tuple[int, int]]


@checked
def knockout(
    target: Target,
    benchmark: str,
    heads: HeadSource,
    *,
    layers: str | Sequence[int] | None = None,
    controls: Sequence[str] = (),
    draws: int = 1,
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
    and controls.

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
        heads: "agnostic" (input-agnostic keys of the run, by their variance), KV heads of all
            layers such as "0-3,5", a file of JSON lines, "-" for standard input, or rows with layer
            and kv_head, or (layer, kv_head) pairs.
        layers: early, middle, late, last:N or numbers; blocks only there.
        controls: "dependent" and "random": as many heads in the same layers.
        draws: how often each control is drawn.
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
    blocking = Blocking(heads, layers, controls, draws, seed)
    asking = Asking(
        store, model, device, max_new_tokens, limit, fresh, official is not None, called(progress)
    )
    work = _prepare(benchmark, run_name, blocking, asking)
    key = result_key(work.settings)
    rereads = not (fresh or answers or official)
    if rereads and (stored := store.kept(key, Result.from_json)) is not None:
        return stored
    with sharing(wait_s) as share:
        answerer = Answerer(store, work.run, model, device, max_new_tokens, fresh, share=share)
        texts = work.ask(answerer, asking.progress)
    work, conditions = work.answered(texts)
    result = work.result(conditions)
    work.write(conditions, answers, official)
    store.keep(key, result.to_json())
    return result


@dataclass(frozen=True)
class Blocking:
    """The heads to block and the controls to draw, as in knockout."""

    heads: HeadSource
    layers: str | Sequence[int] | None
    controls: Sequence[str]
    draws: int
    seed: int


@dataclass(frozen=True)
class Asking:
    """Where and how the questions are asked, as in knockout."""

    store: Store
    model: str | None
    device: str
    max_new_tokens: int
    limit: int | None
    fresh: bool
    official: bool
    progress: Progress


def _prepare(spec: str, run_name: str | None, blocking: Blocking, asking: Asking) -> KnockoutWork:
    """Determine the run, the questions and the conditions; extract images that no run holds."""
    is_agnostic = blocking.heads == "agnostic"
    numbers = _head_numbers(blocking.heads)
    rows = None if is_agnostic or numbers else _rows(blocking.heads)
    benchmark, dataset = open_benchmark(spec)
    if asking.official and not benchmark.is_official:
        raise UsageError(
            f"--official: expected pope or mme, found {dataset.name}, which has no such files: "
            "--answers"
        )
    store = asking.store
    # Whose heads are blocked: heads that are named belong to a run over the benchmark, if any.
    base = find_base(store, run_name, asking.model, None if is_agnostic else dataset)
    refs = _pictures(dataset)[: asking.limit]
    extraction = (asking.model, dataset, refs, asking.device, asking.progress)
    if base is None:
        base, _ = holding_run(store, None, *extraction)
    geometry = base.config.model.geometry
    if numbers:
        rows = _rows((layer, kv_head) for layer in range(geometry.layers) for kv_head in numbers)
    heads, source, head_notes = _heads(rows, blocking.heads, base)
    layers = resolve_layers(blocking.layers, geometry.layers)
    conditions, notes = make_conditions(
        heads, geometry, layers, blocking.controls, blocking.draws, blocking.seed
    )
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
        questions=tuple(questions),
        conditions=tuple(conditions),
        skipped=tuple(skipped),
        notes=(*head_notes, *notes),
        seed=blocking.seed,
    )
    settings = _settings(spec, source, base, layers, blocking, asking)
    return replace(work, settings=work.config() | settings)


def _settings(
    spec: str,
    source: str,
    base: Run,
    layers: tuple[int, ...] | None,
    blocking: Blocking,
    asking: Asking,
) -> dict[str, Any]:
    """Return the settings of a knockout as its result names them."""
    return {
        "benchmark": spec,
        "heads": source,
        "heads_run": base.name,
        "layers": None if layers is None else list(layers),
        "controls": list(blocking.controls),
        "draws": blocking.draws,
        "seed": blocking.seed,
        "max_new_tokens": asking.max_new_tokens,
        "limit": asking.limit,
    }


def _head_numbers(heads: HeadSource) -> tuple[int, ...] | None:
    """Return the KV heads of a text such as 0-3,5, which stand for those of all layers.

    It is None for any other source.
    """
    if not isinstance(heads, str) or not re.fullmatch(r"[\d,\s-]*\d[\d,\s-]*", heads):
        return None
    return None if Path(heads).exists() else parse_numbers(heads, "--heads")


def _rows(heads: HeadSource) -> list[tuple[str, Row]]:
    """Return the rows that name heads, and the location of each."""
    if isinstance(heads, str | Path):
        return read_rows(str(heads))
    rows = (
        row if isinstance(row, Mapping) else dict(zip(("layer", "kv_head"), row, strict=True))
        for row in heads
    )
    return [(f"heads: row {number}", dict(row)) for number, row in enumerate(rows, 1)]


def _heads(
    rows: list[tuple[str, Row]] | None, heads: HeadSource, base: Run
) -> tuple[HeadSet, str, list[str]]:
    """Return the heads to block, the name of their source, and notes.

    Without rows they are the run's input-agnostic keys. Raises UsageError.
    """
    notes: list[str] = []
    if rows is not None:
        source = "given"
        if isinstance(heads, str | Path):
            source = "standard input" if str(heads) == "-" else str(heads)
    else:
        source = "agnostic"
        variances = kept_variances(base, "key", 0, wait_s=WAIT_S)
        if not any(row["input_agnostic"] for row in variances.rows):
            reason = "; ".join(variances.config["notes"]) or "every key is above the threshold"
            raise UsageError(
                f"heads agnostic: run {base.name} has no input-agnostic key: {reason}, and pipe it "
                "to --heads -"
            )
        notes = [f"heads agnostic: {note}" for note in variances.config["notes"]]
        rows = [(f"variance of run {base.name}", row) for row in variances.rows]
    return head_set(rows, base.config.model.geometry, source), source, notes


def _pictures(dataset: DatasetBase) -> Sequence[ImageRef]:
    """Return the pictures of a data set up to the last one that a question is about."""
    subjects = {question.image_ids[0] for question in _questions(dataset)}
    refs = dataset.images()
    last = max((place for place, ref in enumerate(refs) if ref.id in subjects), default=-1)
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

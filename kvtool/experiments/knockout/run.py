"""`kvtool knockout`: a benchmark's questions with text blocked from the image in chosen heads (paper, section 3.2).

Image tokens never see the question, so that one stored prefill serves every question under every condition; see
kvtool.models.knockout for what is blocked, kvtool.asking.heads for the conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtool.asking.answer_files import check_answers, write_answers, write_official
from kvtool.asking.answering import (
    ATTENTION,
    WAIT_S,
    Answer,
    Answerer,
    Progress,
    find_base,
    holding_run,
    no_answer,
    silent,
    unanswerable,
)
from kvtool.asking.benchmarks import Answers, Benchmark, open_benchmark, score_conditions, unaskable
from kvtool.asking.heads import (
    HeadCondition,
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
from kvtool.features.variances import kept_variances
from kvtool.layers import parse_numbers, resolve_layers
from kvtool.result import Result, result_key, versions
from kvtool.store import Run, Store, hash_json
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.select import Target, select_store
from kvtool.store.shares import sharing

NAMED = 10
"""How many left-out questions are named; all are counted."""
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
    progress: Progress | None = None,
) -> Result:
    """Scores of a benchmark under no knockout, the chosen heads, their early, middle and late parts, and controls.

    target: the store, or the run whose model, prefix and view are used (`run` names one of a store). Images that no
    such run holds are extracted first. benchmark: pope:PATH, mme:PATH[@all], scenes, scenes@mme, or any data set with
    questions about one image each, e.g. own:PATH.
    heads: "agnostic" (input-agnostic keys of the run, by their variance), KV heads of all layers such as "0-3,5", a
    file of JSON lines, "-" for standard
    input, or rows with layer and kv_head, or (layer, kv_head) pairs. layers: early, middle, late, last:N or numbers;
    blocks only there. controls: "dependent" and "random", drawn `draws` times with `seed`, as many heads in the same
    layers. limit: only the first images. answers, official: where to write the answers, see answer_files.
    fresh: ask and score anew; else what the store keeps is not asked again, so that an interrupted call goes on.
    wait_s: how long to wait for images that other processes ask about, once all others are done.

    Questions whose image is not there, and those without an answer under some condition, are left out of all and
    counted in n_skipped. Raises UsageError for heads out of
    range or none, ModelError where the run's model is not there, KvtoolError where no question is left; where others
    still hold images, UnfinishedError if this process asked about some, else BusyError.
    """
    progress = progress or silent
    store, named = select_store(target, run, create=model is not None)
    if max_new_tokens < 1 or (limit is not None and limit < 1):
        raise UsageError("knockout: expected max_new_tokens and limit of 1 or more")
    check_answers(answers, official)
    is_agnostic, numbers = heads == "agnostic", _head_numbers(heads)
    rows = None if is_agnostic or numbers else _rows(heads)
    asked, dataset = open_benchmark(benchmark)
    if official is not None and not asked.is_official:
        raise UsageError(
            f"--official: expected pope or mme, found {dataset.name}, which has no such files: --answers"
        )
    base = find_base(store, named, model, None if is_agnostic else dataset)
    refs = _pictures(dataset)[:limit]
    if base is None:
        base, _ = holding_run(store, None, model, dataset, refs, device, progress)
    if numbers:
        layer_numbers = range(base.config.model.geometry.layers)
        rows = _rows((layer, kv_head) for layer in layer_numbers for kv_head in numbers)
    chosen, source, unknown = _heads(rows, heads, base)
    geometry = base.config.model.geometry
    wanted = resolve_layers(layers, geometry.layers)
    conditions, notes = make_conditions(chosen, geometry, wanted, controls, draws, seed)
    notes = [*unknown, *notes]
    holding, failed = holding_run(store, base, model, dataset, refs, device, progress)
    failed |= unanswerable(holding, {ref.id for ref in refs})
    questions, skipped = _split(dataset, refs, failed)
    work = KnockoutWork(store, holding, asked, dataset, tuple(questions), tuple(conditions))
    settings = {
        "benchmark": benchmark,
        "heads": source,
        "heads_run": base.name,
        "layers": None if wanted is None else list(wanted),
        "controls": list(controls),
        "draws": draws,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
        "limit": limit,
    }
    config = work.config() | settings
    key = result_key(config)
    if (
        not (fresh or answers or official)
        and (kept := store.kept(key, Result.from_json)) is not None
    ):
        return kept
    with sharing(wait_s) as share:
        answerer = Answerer(store, holding, model, device, max_new_tokens, fresh, share=share)
        texts = work.ask(answerer, progress)
    work, every, unanswered = work.answered(texts)
    skipped = [*unanswered, *skipped]
    result = work.result(every, config | {"notes": notes}, skipped, seed)
    work.write(every, answers, official, refs)
    store.keep(key, result.to_json())
    return result


@dataclass(frozen=True)
class KnockoutWork:
    """What is asked of which run under which conditions."""

    store: Store
    run: Run
    benchmark: Benchmark
    dataset: DatasetBase
    questions: tuple[Question, ...]
    conditions: tuple[HeadCondition, ...]

    def ask(self, answerer: Answerer, progress: Progress) -> list[tuple[Answer, ...]]:
        """What is answered under each condition, in the order of the questions; asked twice, answered once."""
        texts: dict[str, list[str]] = {}
        for question in self.questions:
            texts.setdefault(question.image_ids[0], []).append(question.prompt)
        sets = list(dict.fromkeys(condition.heads for condition in self.conditions))
        progress(0, "", len(texts))
        found = answerer.ask(texts, sets, progress)
        of_conditions = (found[condition.heads] for condition in self.conditions)
        return [
            tuple(answers[q.image_ids[0]][q.prompt] for q in self.questions)
            for answers in of_conditions
        ]

    def answered(
        self, texts: Sequence[Sequence[Answer]]
    ) -> tuple[KnockoutWork, list[Answers], list[str]]:
        """The questions that have an answer under every condition, with what is scored together with them; their
        answers; and a line for each of the others. Raises KvtoolError where none is left."""
        unit_of = self.benchmark.unit_of
        lacking = {at for of_one in texts for at, text in enumerate(of_one) if text is None}
        units = {unit_of(self.questions[index]) for index in lacking}
        left = [at for at, question in enumerate(self.questions) if unit_of(question) not in units]
        lines = [
            no_answer(question)
            if at in lacking
            else f"question {question.id}: the other one about its image has no answer"
            for at, question in enumerate(self.questions)
            if unit_of(question) in units
        ]
        if not left:
            raise KvtoolError(
                f"knockout: expected questions that have an answer under every condition, found none: {lines[0]}"
            )
        answered = [
            Answers(each.name, each.draw, len(each.heads), tuple(of_one[at] or "" for at in left))
            for each, of_one in zip(self.conditions, texts, strict=True)
        ]
        return replace(self, questions=tuple(self.questions[at] for at in left)), answered, lines

    def result(
        self, every: Sequence[Answers], config: dict[str, Any], skipped: list[str], seed: int
    ) -> Result:
        rows = list(score_conditions(self.benchmark, self.questions, every, seed))
        return Result(
            command="knockout",
            task=self.benchmark.name,
            metric=self.benchmark.metric,
            n=rows[0]["n"],
            rows=rows,
            config=config,
            versions=versions(),
            n_skipped=len(skipped),
            skipped=skipped[:NAMED],
            unit=self.benchmark.unit,
        )

    def write(
        self,
        every: Sequence[Answers],
        answers: str | Path | None,
        official: str | Path | None,
        refs: Sequence[ImageRef],
    ) -> None:
        if answers is not None:
            write_answers(Path(answers), self.benchmark, self.questions, every)
        if official is not None:
            pictures = {ref.id: ref.path.name if ref.path else ref.id for ref in refs}
            write_official(Path(official), self.benchmark, self.questions, every, pictures)

    def config(self) -> dict[str, Any]:
        """What the answers depend on."""
        return {
            "task": self.benchmark.name,
            "algorithm": ALGORITHMS["knockout"],
            **describe_run(self.run, {question.image_ids[0] for question in self.questions}),
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "questions": len(self.questions),
            "questions_hash": hash_json(
                [[q.id, q.image_ids[0], q.prompt, q.answer] for q in self.questions]
            ),
            "attention": ATTENTION,
            "conditions": [
                {
                    "condition": each.name,
                    "draw": each.draw,
                    "heads": [list(head) for head in sorted(each.heads)],
                }
                for each in self.conditions
            ],
        }


def _head_numbers(heads: HeadSource) -> tuple[int, ...] | None:
    """The KV heads of a text such as 0-3,5, which stand for those of all layers; None for any other source."""
    if not isinstance(heads, str) or not re.fullmatch(r"[\d,\s-]*\d[\d,\s-]*", heads):
        return None
    return None if Path(heads).exists() else parse_numbers(heads, "--heads")


def _rows(heads: HeadSource) -> list[tuple[str, Row]]:
    """Rows that name heads, each with where it stands."""
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
    """The heads to block, what to call their source, and notes; without rows, the run's input-agnostic keys."""
    notes: list[str] = []
    if rows is not None:
        source = (
            {"-": "standard input"}.get(str(heads), str(heads))
            if isinstance(heads, str | Path)
            else "given"
        )
    else:
        source = "agnostic"
        found = kept_variances(base, "key", 0, wait_s=WAIT_S)
        if not any(row["input_agnostic"] for row in found.rows):
            why = "; ".join(found.config["notes"]) or "every key is above the threshold"
            raise UsageError(
                f"heads agnostic: run {base.name} has no input-agnostic key: {why}, and pipe it to --heads -"
            )
        notes = [f"heads agnostic: {note}" for note in found.config["notes"]]
        rows = [(f"variance of run {base.name}", row) for row in found.rows]
    return head_set(rows, base.config.model.geometry, source), source, notes


def _pictures(dataset: DatasetBase) -> Sequence[ImageRef]:
    """The pictures of a data set up to the last one that a question is about."""
    asked_about = {question.image_ids[0] for question in _questions(dataset)}
    refs = dataset.images()
    last = max((place for place, ref in enumerate(refs) if ref.id in asked_about), default=-1)
    return refs[: last + 1]


def _questions(dataset: DatasetBase) -> list[Question]:
    assert isinstance(dataset, HasQuestions)  # as open_benchmark chose it
    return dataset.questions()


def _split(
    dataset: DatasetBase, refs: Sequence[ImageRef], failed: Mapping[str, str]
) -> tuple[list[Question], list[str]]:
    """The questions that can be asked, and a line for each that cannot. Raises KvtoolError where none is left."""
    wanted = {ref.id for ref in refs}
    every = [question for question in _questions(dataset) if question.image_ids[0] in wanted]
    why = {question.id: reason for question in every if (reason := unaskable(question, failed))}
    kept = [question for question in every if question.id not in why]
    skipped = [f"question {question}: {reason}" for question, reason in why.items()]
    skipped += dataset.skipped
    if not kept:
        first = f": {skipped[0]}" if skipped else ""
        raise KvtoolError(
            f"{dataset.name} {dataset.root}: expected questions about images that are there, found none{first}"
        )
    return kept, skipped

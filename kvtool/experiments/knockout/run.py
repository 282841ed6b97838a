"""`kvtool knockout`: a benchmark's questions with text blocked from the image in chosen heads
(paper, section 3.2).

Image tokens never see the question, so that one stored prefill serves every question under every
condition; see kvtool.models.knockout for what is blocked, kvtool.asking.heads for the conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool.asking.answer_files import check_answers, write_answers, write_official
from kvtool.asking.answering import ATTENTION, Answerer
from kvtool.asking.benchmarks import Answers, Benchmark, open_benchmark, score_conditions
from kvtool.asking.caches import WAIT_S, Progress, find_base, holding_run, silent, unanswerable
from kvtool.asking.heads import (
    HeadCondition,
    HeadSet,
    Row,
    head_set,
    make_conditions,
    read_rows,
    resolve_layers,
)
from kvtool.bounds import checked
from kvtool.datasets.base import DatasetBase, ImageRef, Question
from kvtool.errors import KvtoolError, UsageError
from kvtool.features.variances import kept_variances
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
    """Scores of a benchmark under no knockout, the chosen heads, their early, middle and late
    parts, and controls.

    target: the store, or the run whose model, prefix and view are used (`run` names one of a
    store). Images that no such run holds are extracted first. benchmark: pope:PATH, mme:PATH[@all],
    scenes or scenes@mme. heads: "agnostic" (input-agnostic keys of the run, by their variance), a
    file of JSON lines, "-" for standard input, or rows with layer and kv_head, or (layer, kv_head)
    pairs. layers: early, middle, late, last:N or numbers; blocks only there. controls: "dependent"
    and "random", drawn `draws` times with `seed`, as many heads in the same layers. limit: only the
    first images. answers, official: where to write the answers, see answer_files. fresh: ask and
    score anew; else what the store keeps is not asked again, so that an interrupted call goes on.
    wait_s: how long to wait for images that other processes ask about, once all others are done.

    Questions whose image is not there are left out and counted in n_skipped. Raises UsageError for
    heads out of range or none, ModelError where the run's model is not there, KvtoolError where no
    question is left; where others still hold images, UnfinishedError if this process asked about
    some, else BusyError.
    """
    progress = progress or silent
    store, named = select_store(target, run, create=model is not None)
    if max_new_tokens < 1 or (limit is not None and limit < 1):
        raise UsageError("knockout: expected max_new_tokens and limit of 1 or more")
    check_answers(answers, official)
    rows = None if heads == "agnostic" else _rows(heads)
    asked, dataset = open_benchmark(benchmark)
    base = find_base(store, named, model, None if rows is None else dataset)
    refs = dataset.images()[:limit]
    if base is None:
        base, _ = holding_run(store, None, model, dataset, refs, device, progress)
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
        every = work.ask(answerer, progress)
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

    def ask(self, answerer: Answerer, progress: Progress) -> list[Answers]:
        """Answers of every condition, in the order of the questions. Questions asked twice are
        answered once."""
        texts: dict[str, list[str]] = {}
        for question in self.questions:
            texts.setdefault(question.image_ids[0], []).append(question.prompt)
        sets = list(dict.fromkeys(condition.heads for condition in self.conditions))
        progress(0, "", len(texts))
        found = answerer.ask(texts, sets, progress)
        return [
            Answers(
                condition.name,
                condition.draw,
                len(condition.heads),
                tuple(found[condition.heads][q.image_ids[0]][q.prompt] for q in self.questions),
            )
            for condition in self.conditions
        ]

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
    """The heads to block, what to call their source, and notes; without rows, the run's
    input-agnostic keys."""
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
                f"heads agnostic: run {base.name} has no input-agnostic key: {why}, and pipe it "
                "to --heads -"
            )
        notes = [f"heads agnostic: {note}" for note in found.config["notes"]]
        rows = [(f"variance of run {base.name}", row) for row in found.rows]
    return head_set(rows, base.config.model.geometry, source), source, notes


def _split(
    dataset: DatasetBase, refs: Sequence[ImageRef], failed: Mapping[str, str]
) -> tuple[list[Question], list[str]]:
    """The questions that can be asked, and a line for each that cannot. Raises KvtoolError where
    none is left."""
    wanted = {ref.id for ref in refs}
    every = [question for question in dataset.questions() if question.image_ids[0] in wanted]  # type: ignore[attr-defined]
    kept = [question for question in every if question.image_ids[0] not in failed]
    skipped = [
        f"question {q.id}: {failed[q.image_ids[0]]}" for q in every if q.image_ids[0] in failed
    ]
    skipped += dataset.skipped
    if not kept:
        why = f": {skipped[0]}" if skipped else ""
        raise KvtoolError(
            f"{dataset.name} {dataset.root}: expected questions about images that are there, "
            f"found none{why}"
        )
    return kept, skipped

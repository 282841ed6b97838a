"""`kvtool paired`: the same questions put to the model and to its image values (paper, section 4.2
and table 5).

The values answer block by block; the best block's answers are set beside the model's: both right,
the values alone, the model alone, neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.asking.answer_files import check_answers, write_lines
from kvtool.asking.answering import ATTENTION, Answerer
from kvtool.asking.caches import Progress, silent
from kvtool.bounds import checked
from kvtool.datasets.base import ImageRef
from kvtool.datasets.identity import dataset_of
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.paired.answers import (
    ask_one_image,
    ask_several_images,
    marked_prompt,
    stored_prompt,
)
from kvtool.experiments.paired.cells import ComparedAnswers
from kvtool.experiments.paired.points import DRAWING, picture_files, write_pictures
from kvtool.experiments.paired.tasks import (
    HIDDEN_ANSWER,
    PairedQuestions,
    PairedTask,
    paired_task,
    serving_run,
)
from kvtool.features.layers import Layer
from kvtool.metrics.answers import parse_choice
from kvtool.outputs import check_folder
from kvtool.result import Result, Row, result_key, versions
from kvtool.store import Run, Store, hash_json
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.select import Target, select_store
from kvtool.store.shares import chunk_name, sharing
from kvtool.tasks.base import BlockPlan, Select, halves, nonfinite_lines, score_blocks
from kvtool.tasks.blocks import BASELINES, plan_blocks, torch_device
from kvtool.tasks.scoring import choose_best, keep_result, per_layer
from kvtool.tasks.truth import sizes_of
from kvtool.types import Kind

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 16
READINGS = {"choice": "value", "pck": "value_pck"}
"""What makes the cells of semantic correspondence: the values' choice of four points, or PCK."""
NAMED = 10


@checked
def paired(
    target: Target,
    task: str,
    *,
    run: str | None = None,
    kinds: Sequence[Kind] | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    select: str = "max",
    n: int | None = None,
    pictures: str | Path | None = None,
    answers: str | Path | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    model: str | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """What the model says and what its image values know, question by question.

    task: semantic-correspondence (made of SPair-71k's pairs), or art-style, visual-similarity,
    relative-depth (BLINK's val split). target: the run, or the store that holds it (`run` names one
    of several). kinds, layers, heads, select: blocks as in kvtool.tasks.probe; by default value,
    and projected and vision beside it. n: questions at most, by default 200 made ones, or all of
    BLINK's. seed: of made questions, folds, halves and intervals. pictures: a new folder for the
    marked pictures, by default one in the store. answers: a file for a JSON line a question. model,
    data: where the run's model and data set are now. fresh: ask and score anew; else no question is
    asked twice, so that an interrupted call goes on. wait_s: how long to wait for questions that
    other processes ask, and for their scores, once all others are done. options, of the task alone:
    reading ("choice" or "pck", which of its two scores makes the cells of semantic-correspondence);
    folds and c (of relative-depth's linear probe).

    Raises UsageError for unknown tasks and options and for runs that cannot serve, saying what to
    extract; ModelError where an answer is missing and the run's model is not there; where others
    still hold questions or the scores, UnfinishedError if this process did some, else BusyError.
    """
    progress = progress or silent
    wanted = paired_task(task)
    _check(wanted, select, n, max_new_tokens, options, pictures)
    check_answers(answers)
    if pictures is not None:
        check_folder(pictures, "--pictures")
    store, named = select_store(target, run)
    found = serving_run(store, wanted, named)
    plan = plan_blocks(found, kinds or _default_kinds(found), layers, heads)
    dataset = dataset_of(found, data)
    own = {name: value for name, value in options.items() if name != "reading"}
    asked = wanted.make(dataset, sizes_of(found), wanted.subset, n, seed, **own)
    if not asked.questions:
        raise UsageError(_none_left(found, wanted, asked.skipped))
    if select == "split" and len(asked.questions) < 2:
        raise UsageError(
            f"paired {task}: --select split: expected two questions or more, found one; use max"
        )
    work = PairedWork(
        store, found, wanted, asked, plan, {each.id: each for each in dataset.images()}
    )
    folder = work.draw(None if pictures is None else Path(pictures))
    metric = READINGS[options.get("reading", "choice")]
    config = work.config() | {
        "metric": metric,
        "select": select,
        "n": n,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
        **asked.settings,
    }
    key = result_key(config)
    result = None if fresh else store.kept(key, Result.from_json)
    if result is None:
        with sharing(wait_s) as share:
            answerer = Answerer(store, found, model, device, max_new_tokens, fresh, share=share)
            said = work.ask(answerer, folder, progress)
            result = share.result(
                found,
                chunk_name("scores", task, key),
                lambda: None if fresh else store.kept(key, Result.from_json),
                lambda: keep_result(
                    store, key, work.result(said, config, torch_device(device), progress)
                ),
            )
    if answers is not None:
        work.write(result, Path(answers))
    return result


def _check(
    task: PairedTask,
    select: str,
    n: int | None,
    max_new_tokens: int,
    options: Mapping[str, Any],
    pictures: str | Path | None,
) -> None:
    if select not in Select:
        raise UsageError(f"select: expected {' or '.join(Select)}, found {select!r}")
    if max_new_tokens < 1 or (n is not None and n < 1):
        raise UsageError("paired: expected n and max_new_tokens of 1 or more")
    given = [*options, *(["pictures"] if pictures is not None else [])]
    if idle := [name for name in given if name not in task.options]:
        own = ", ".join(task.options) or "none of its own"
        raise UsageError(f"paired {task.name}: no option {', '.join(idle)} here; it takes: {own}")
    if options.get("reading", "choice") not in READINGS:
        raise UsageError(f"reading: expected {' or '.join(READINGS)}, found {options['reading']!r}")
    if options.get("folds", 2) < 2 or options.get("c", 1.0) <= 0:
        raise UsageError("paired: expected folds of 2 or more and c above 0")


def _default_kinds(run: Run) -> list[Kind]:
    if "value" not in run.config.kinds:
        raise UsageError(
            f"run {run.name}: expected values, found {', '.join(run.config.kinds)}; extract with "
            "--kinds value among them, or name stored kinds with --kinds"
        )
    return ["value", *(kind for kind in BASELINES if kind in run.config.kinds)]


def _none_left(run: Run, task: PairedTask, skipped: Sequence[str]) -> str:
    what = f"questions of {task.subset}" if task.subset else "pairs with four common keypoints"
    why = f" ({skipped[0]}, ...)" if skipped else ""
    if skipped and all(line.endswith(HIDDEN_ANSWER) for line in skipped):
        return f"paired {task.name}: expected {what} with public answers, found them hidden{why}; use another split"
    return (
        f"paired {task.name}: expected {what} about images that run {run.name} holds, found "
        f"none{why}; extract them: kvtool extract {run.store} --model M --dataset {task.spec}"
    )


@dataclass(frozen=True)
class PairedWork:
    """A task's questions over a run, and the blocks that answer them. refs: the data set's
    pictures."""

    store: Store
    run: Run
    task: PairedTask
    asked: PairedQuestions
    plan: BlockPlan
    refs: Mapping[str, ImageRef]

    def draw(self, folder: Path | None) -> Path | None:
        """The folder of the questions' marked pictures, drawn where they are not there yet; None
        without any."""
        points = self.asked.points
        if points is None:
            return None
        if folder is not None:
            write_pictures(folder, points, self.refs)
            return folder
        key = self.pictures_key
        assert key is not None
        return self.store.pictures(key, lambda: picture_files(points, self.refs))

    @property
    def pictures_key(self) -> str | None:
        """Under what the store keeps the marked pictures: the points, and the pictures that they
        lie in."""
        points = self.asked.points
        if points is None:
            return None
        images = {image for point in points for image in point.question.image_ids}
        return hash_json([[point.record() for point in points], self.run.images_hash(images)])

    def ask(self, answerer: Answerer, folder: Path | None, progress: Progress) -> list[str]:
        """The model's answers, in the order of the questions."""
        questions = self.asked.questions
        progress(
            0,
            "",
            len(questions) + sum(len(layers) * len(heads) for _, layers, heads in self.plan.blocks),
        )
        if self.asked.points is not None and folder is not None:
            prompts = [marked_prompt(answerer, point, folder) for point in self.asked.points]
        elif all(len(question.image_ids) == 1 for question in questions):
            return ask_one_image(answerer, questions, progress)
        else:
            prompts = [stored_prompt(answerer, question, self.refs) for question in questions]
        return ask_several_images(answerer, prompts, progress)

    def result(
        self,
        answers: Sequence[str],
        config: dict[str, Any],
        device: torch.device,
        progress: Progress,
    ) -> Result:
        questions = self.asked.questions
        said = [
            parse_choice(answer, each.choices)
            for answer, each in zip(answers, questions, strict=True)
        ]
        compared = ComparedAnswers(questions, self.asked.reading, said, config["metric"])
        select = config["select"]
        seed = config["seed"]
        metric = compared.metric
        rows, half_rows = score_blocks(compared, self.plan, device, select, seed, progress)
        rows = [compared.counted(row) for row in rows]
        half_rows = [compared.counted(row) for row in half_rows]
        best = choose_best(rows, half_rows, metric)
        lines = nonfinite_lines(self.run, rows)
        if best is None:
            raise KvtoolError(
                f"paired {self.task.name}: expected a block that can answer, found none: {lines[0]}"
            )
        scored = halves(len(questions), seed)[1] if select == "split" else np.arange(len(questions))
        heads = next(heads for kind, _, heads in self.plan.blocks if kind == best["kind"])
        layer = Layer(self.run, best["kind"], best["layer"], heads, device)
        measured = compared.measure(layer)[heads.index(best["kv_head"])]
        return Result(
            command="paired",
            task=self.task.name,
            metric=metric,
            n=len(questions),
            rows=rows,
            best=best,
            per_layer=per_layer(rows, metric),
            baselines=[{"run": self.run.name, **row} for row in rows if row["kind"] in BASELINES],
            config=config,
            versions=versions(),
            n_skipped=len(self.asked.skipped),
            skipped=[*lines, *self.asked.skipped][:NAMED],
            items=[
                self._with_files(item, at)
                for at, item in enumerate(compared.items(measured, answers, scored))
            ],
        )

    def _with_files(self, item: Row, at: int) -> Row:
        return (
            item
            if self.asked.points is None
            else {**item, "files": list(self.asked.points[at].files)}
        )

    def write(self, result: Result, path: Path) -> None:
        """A JSON line a question: its record, and its text and choices."""
        pairs = zip(result.items, self.asked.questions, strict=True)
        lines = (
            {**item, "text": asked.prompt, "choices": list(asked.choices)} for item, asked in pairs
        )
        write_lines(path, (json.dumps(line, ensure_ascii=False) for line in lines))

    def config(self) -> dict[str, Any]:
        """What the numbers depend on."""
        asked = self.asked
        texts = [
            [each.id, list(each.image_ids), each.prompt, each.answer] for each in asked.questions
        ]
        points = [] if asked.points is None else [point.record() for point in asked.points]
        return {
            "task": self.task.name,
            "algorithm": ALGORITHMS["paired"],
            **describe_run(self.run),
            "subset": self.task.subset or None,
            "questions": len(texts),
            "questions_hash": hash_json([texts, points]),
            "pictures": self.pictures_key,
            "drawing": None if asked.points is None else DRAWING,
            "attention": ATTENTION,
            "blocks": [
                {"kind": k, "layers": list(ls), "kv_heads": list(hs)}
                for k, ls, hs in self.plan.blocks
            ],
        }

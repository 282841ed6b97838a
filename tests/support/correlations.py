"""Runs with planted segmentations and answers, for correlations over models."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

import kvtool
import kvtool.models
from kvtool.asking.answering import Answerer
from kvtool.asking.choices import NO_HEADS
from kvtool.asking.image_replies import change_key
from kvtool.datasets.blink import Blink
from kvtool.datasets.cvbench import CvBench
from kvtool.datasets.imagenet_s import ImageNetS
from kvtool.result import Result, Row
from kvtool.store import Run, float32_to_bits, hash_json
from tests.support import datasets as builders
from tests.support.tasks.language import CLASSES, GRID, LAYERS, NAMES, imagenet, planted
from tests.support.units import DIM, HEADS, noise, sample, write_run

WRONG, RIGHT = (0, 1, 2, 4, 3), (20, 18, 10, 12, 8)
"""Of five models: spoilt images, right answers of 24."""
TASK = ["semantic-segmentation"]

SOURCES = (
    ("2D", "Count", "ADE20K", 8),
    ("2D", "Relation", "COCO", 4),
    ("3D", "Depth", "Omni3D", 12),
)
"""Questions of each collection, all with answer (A) of two choices."""


def write_cvbench(root: Path) -> Path:
    rows: dict[str, list[dict[str, Any]]] = {"2D": [], "3D": []}
    for kind, task, source, n in SOURCES:
        for _ in range(n):
            number = len(rows[kind])
            record = {
                "idx": number,
                "type": kind,
                "task": task,
                "question": "Which?",
                "choices": ["cat", "dog"],
            }
            record |= {
                "answer": "(A)",
                "prompt": f"Which? {number} (A) cat (B) dog",
                "source": source,
            }
            rows[kind].append(record | {"image": builders.cell(number)})
    for kind, records in rows.items():
        builders.parquet(root / f"test_{kind.lower()}.parquet", records, ["image"])
    return root


def segmented(
    store: Path, data: Path, model: str, n_wrong: int, images: int = 12, **options: Any
) -> Run:
    """Values that are right but for two background patches in each of `n_wrong` images."""
    root = data / "imagenet-s"
    masks = imagenet(root)
    texts = np.random.default_rng(2).normal(size=(3, LAYERS, HEADS, DIM)).astype(np.float32)
    row_of = {name: CLASSES.index(name[:3]) for name in masks}
    refs = ImageNetS(root).images()[:images]
    spoilt = {ref.id for ref in refs[:n_wrong]}
    right = planted(masks, texts, row_of)
    wrongs = {name: planted(masks, texts, row_of, name) for name in spoilt}

    def fill(s: Any, layer: int, head: int) -> Any:
        return wrongs.get(s.id, right)(s, layer, head)

    samples = [sample(ref.id, i, (GRID[1], GRID[0]), GRID) for i, ref in enumerate(refs)]
    run = write_run(
        store,
        "imagenet-s",
        "validation",
        root,
        samples,
        fill,
        model=model,
        layers=LAYERS,
        kinds=("value",),
        **options,
    )
    run.commit_text(
        list(NAMES), float32_to_bits(texts) if run.config.model.dtype == "bfloat16" else texts
    )
    run.refresh()
    return run


def answered(
    store: Path,
    dataset: CvBench | Blink,
    model: str,
    says: Callable[[int], str],
    *,
    name: str = "",
    exclusions: Collection[str] = (),
    **options: Any,
) -> Run:
    """A run over a benchmark with an answer to each of its questions: says(its number)."""
    refs = [ref for ref in dataset.images() if ref.id not in exclusions]
    samples = [sample(ref.id, i, (8, 6), (2, 2)) for i, ref in enumerate(refs)]
    options = {"kinds": ("key", "value"), "layers": 2, **options}
    root = dataset.root or Path()
    run = write_run(
        store,
        dataset.name,
        dataset.split,
        root,
        samples,
        noise(1),
        model=model,
        name=name,
        **options,
    )
    opened = kvtool.open(store)
    answerer = Answerer(opened, run, None, "cpu", 16)
    for number, question in enumerate(dataset.questions()):
        answers = {change_key(NO_HEADS): {question.prompt: says(number)}}
        opened.save_result(
            hash_json([answerer.key, question.image_ids[0], ""]),
            {"kind": "answers", "answers": answers},
        )
    return run


def right_for(n: int) -> Callable[[int], str]:
    """Right answers to the first n questions, in different words; the next one is none at all."""
    return lambda number: (
        ("(A)", "It is the cat.", "A.")[number % 3] if number < n else "(B)" if number > n else "?"
    )


def correlated(stores: Any, **options: Any) -> Result:
    return kvtool.correlate(stores, **{"tasks": TASK, "benchmarks": ["cvbench"]} | options)


def models_of(result: Result) -> list[Row]:
    return sorted((row for row in result.rows if "model" in row), key=lambda row: str(row["model"]))

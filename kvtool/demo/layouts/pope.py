"""The layout of POPE: coco_pope_{random,popular,adversarial}.json, a question a line.

The images are those of the folder `coco` beside it. There are six questions an image, for three
categories that are present and three that are absent. Absent ones are drawn at random, by how often
a category occurs in the images, or by how often it occurs together with those that are present
(Li et al. 2023, section 5.1).
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.demo.layouts import coco
from kvtool.demo.layouts.files import Size, save_text, stream
from kvtool.demo.questions import existence_question
from kvtool.demo.world import categories

N_EACH = 3
"""The number of questions of each answer and image."""
STRATEGIES = ("random", "popular", "adversarial")


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the questions into the empty folder, and return 0 images, for they lie in `coco`."""
    present: dict[str, list[str]] = {}
    for picture in coco.pictures(seed, size):
        names = (thing.category for thing in picture.scene.things)
        present[picture.file_name] = list(dict.fromkeys(names))
    for strategy in STRATEGIES:
        rows = _questions(strategy, present, seed)
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        save_text(folder / f"coco_pope_{strategy}.json", text)
    return 0


def _questions(strategy: str, present: dict[str, list[str]], seed: int) -> list[dict[str, Any]]:
    """Ask about each image with enough categories; `present` has file name -> its categories."""
    rows: list[dict[str, Any]] = []
    images = list(present.values())
    for file_name, names in present.items():
        if len(names) < N_EACH:
            continue
        absent = choose_absent(strategy, names, images, stream(seed, "pope", strategy, file_name))
        # A yes and a no in turn: both answers are equally often right.
        for pair in zip(names[:N_EACH], absent, strict=True):
            for category in pair:
                question = existence_question(category, category in names)
                rows.append(
                    {
                        "question_id": len(rows) + 1,
                        "image": file_name,
                        "text": question.text,
                        "label": question.answer,
                    }
                )
    return rows


def choose_absent(
    strategy: str, present: list[str], images: list[list[str]], rng: np.random.Generator
) -> list[str]:
    """Choose three categories that are not in the image.

    Args:
        strategy: One of STRATEGIES. Ties of the two that count go by the alphabet.
        present: The categories of the image.
        images: The categories of each image of the data set.
        rng: The random stream of the strategy `random`.
    """
    absent = [name for name in categories() if name not in present]
    if strategy == "random":
        return [absent[int(index)] for index in rng.permutation(len(absent))[:N_EACH]]
    # Popular ones are those of most images; adversarial ones stand often beside those present.
    counts = Counter(name for image in images for name in image)
    if strategy == "adversarial":
        together = Counter(pair for image in images for pair in permutations(image, 2))
        counts = Counter()
        for name in absent:
            counts[name] = sum(together[name, neighbor] for neighbor in present)
    return sorted(absent, key=lambda name: (-counts[name], name))[:N_EACH]

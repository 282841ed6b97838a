"""POPE: coco_pope_{random,popular,adversarial}.json, one question a line, about the images of coco beside it.

Six questions an image: three categories that are there and three that are not. Those are drawn at random, by how often
a category occurs in the images, or by how often it occurs together with what is there (Li et al. 2023, section 5.1).
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
"""Questions of each answer an image."""
STRATEGIES = ("random", "popular", "adversarial")


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the questions into the empty folder; the number of images is 0, for they lie in coco."""
    shown = {picture.file_name: picture.scene for picture in coco.pictures(seed, size)}
    present = {
        name: list(dict.fromkeys(thing.category for thing in scene.things))
        for name, scene in shown.items()
    }
    for strategy in STRATEGIES:
        lines: list[dict[str, Any]] = []
        for name, here in present.items():
            if len(here) < N_EACH:
                continue
            there = here[:N_EACH]
            absent = choose_absent(
                strategy, here, list(present.values()), stream(seed, "pope", strategy, name)
            )
            for pair in zip(there, absent, strict=True):
                for category in pair:
                    question = existence_question(category, category in here)
                    lines.append(
                        {
                            "question_id": len(lines) + 1,
                            "image": name,
                            "text": question.text,
                            "label": question.answer,
                        }
                    )
        save_text(
            folder / f"coco_pope_{strategy}.json",
            "".join(f"{json.dumps(line)}\n" for line in lines),
        )
    return 0


def choose_absent(
    strategy: str, here: list[str], images: list[list[str]], rng: np.random.Generator
) -> list[str]:
    """Three categories that are not in the image; ties of the two counting strategies go by the alphabet."""
    absent = [name for name in categories() if name not in here]
    if strategy == "random":
        return [absent[int(index)] for index in rng.permutation(len(absent))[:N_EACH]]
    counts = Counter(name for image in images for name in image)
    if strategy == "adversarial":
        together = Counter(pair for image in images for pair in permutations(image, 2))
        counts = Counter({name: sum(together[name, other] for other in here) for name in absent})
    return sorted(absent, key=lambda name: (-counts[name], name))[:N_EACH]

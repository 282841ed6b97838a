"""A tree of a user's own data, own:DIR, and changes to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.datasets.files import json_lines, label_png, picture, write_json, write_text

OWN_CLASSES = {"names": {"1": "cat", "2": "dog"}, "void": 255, "background": True}


def own(root: Path, per_class: int = 7) -> Path:
    """All that `own:` reads: masks of two classes, one picture of both; pairs, two videos,
    questions, captions.
    """
    for number in range(2 * per_class):
        picture(root / f"images/p{number:02d}.png", seed=number)
        labels = np.zeros((24, 32), np.uint8)
        labels[4:16, 5:20] = 1 + number % 2
        labels[3, 4:21] = 255
        if number == 0:
            labels[18:22, 2:9] = 2
        label_png(root / f"masks/p{number:02d}.png", labels, palette=number % 3 == 0)
    write_json(root / "classes.json", OWN_CLASSES)
    own_pairs(root)
    own_videos(root)
    own_questions(root)
    mask = np.zeros((24, 32), np.uint8)
    mask[2:9, 3:12] = 255
    label_png(root / "objects/left.png", mask, palette=False)
    lines = [
        {"image": "p00", "caption": "a cat on a mat", "class": "cat"},
        {"image": "p01.png", "caption": "a dog", "class": "dog", "incorrect": "a boat"},
        {"image": "p02", "caption": "the left one", "mask": "objects/left.png"},
        {"image": "images/p03.png", "caption": "nothing in particular"},
    ]
    json_lines(root / "captions.jsonl", lines)
    return root


def own_pairs(root: Path) -> Path:
    points = {"nose": [4, 5], "tail": [30, 20], "left ear": [10, 3], "paw": [20, 22]}
    moved = {name: [x - 1, y + 1] for name, (x, y) in points.items()} | {"only here": [1, 1]}
    lines = [
        {"images": ["p00", "p02"], "keypoints": [points, moved]},
        {
            "id": "second",
            "category": "dog",
            "images": ["p01", "p03"],
            "keypoints": [points, {"nose": [6, 7]}],
            "boxes": [[0, 0, 20, 20], [2, 2, 22, 12]],
            "sizes": [[32, 24], [32, 24]],
        },
    ]
    return json_lines(root / "pairs.jsonl", lines)


def own_videos(root: Path) -> Path:
    for name in ("one", "two"):
        for frame in range(4):
            picture(root / f"videos/{name}/{frame:05d}.jpg", seed=frame)
            labels = np.zeros((24, 32), np.uint8)
            labels[2 + frame : 8 + frame, 4:12] = 1
            label_png(root / f"videos/{name}/masks/{frame:05d}.png", labels)
    return root


def own_questions(root: Path) -> Path:
    lines: list[dict[str, Any]] = [
        {
            "image": f"p{n:02d}",
            "question": "Is it a cat?",
            "answer": "yes" if n % 2 == 0 else "no",
            "group": "kind",
        }
        for n in range(6)
    ]
    lines += [
        {
            "image": f"p{n:02d}",
            "question": "Which?",
            "answer": "dog" if n % 2 else "cat",
            "choices": ["cat", "dog"],
        }
        for n in range(8)
    ]
    lines += [
        {
            "id": f"like-{n}",
            "group": "likeness",
            "images": ["p00", f"p{n:02d}", f"p{n + 1:02d}"],
            "question": "Which of the others shows the same animal?",
            "answer": "(A)" if n % 2 == 0 else "B",
            "choices": ["the second image", "the third image"],
        }
        for n in range(2, 6)
    ]
    lines += [{"image": "p04", "question": "What is it?", "answer": "A cat."}]
    return json_lines(root / "questions.jsonl", lines)


def rewrite(path: Path, *lines: Any) -> None:
    """A list with these lines alone; texts stand as they are."""
    write_text(path, "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))

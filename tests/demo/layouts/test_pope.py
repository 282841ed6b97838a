"""Questions are about coco's images, and their labels are true of the instances."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.demo.layouts.pope import STRATEGIES, choose_absent


@pytest.fixture(scope="module")
def present(world: Path) -> dict[str, set[str]]:
    """File name -> categories with an instance in the image."""
    content = json.loads((world / "coco" / "annotations" / "instances_val2014.json").read_text())
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    files = {entry["id"]: entry["file_name"] for entry in content["images"]}
    names_by_image: dict[str, set[str]] = {name: set() for name in files.values()}
    for entry in content["annotations"]:
        names_by_image[files[entry["image_id"]]].add(names[entry["category_id"]])
    return names_by_image


def read(world: Path, strategy: str) -> list[dict[str, Any]]:
    text = (world / "pope" / f"coco_pope_{strategy}.json").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_labels_are_true(world: Path, present: dict[str, set[str]], strategy: str) -> None:
    questions = read(world, strategy)
    assert len(questions) >= 180
    assert [entry["question_id"] for entry in questions] == list(range(1, len(questions) + 1))
    for entry in questions:
        match = re.fullmatch(r"Is there an? ([a-z]+) in the image\?", entry["text"])
        assert match is not None
        assert (match[1] in present[entry["image"]]) == (entry["label"] == "yes")
        assert (world / "coco" / "val2014" / entry["image"]).is_file()
    assert Counter(entry["label"] for entry in questions)["yes"] == len(questions) / 2
    assert set(Counter(entry["image"] for entry in questions).values()) == {6}
    assert len({(entry["image"], entry["text"]) for entry in questions}) == len(questions)


@pytest.mark.slow
def test_the_three_files_ask_after_the_same_present_things(world: Path) -> None:
    positives = [
        [
            (entry["image"], entry["text"])
            for entry in read(world, strategy)
            if entry["label"] == "yes"
        ]
        for strategy in STRATEGIES
    ]
    assert positives[0] == positives[1] == positives[2]


def test_popular_and_adversarial_follow_the_counts() -> None:
    images = [
        ["bird", "fish", "cat"],
        ["fish", "boat"],
        ["fish", "boat"],
        ["tree", "lamp"],
        ["tree"],
        ["tree", "key"],
    ]
    rng = np.random.default_rng(0)
    assert choose_absent("popular", ["cat"], images, rng) == ["fish", "tree", "boat"]
    assert choose_absent("adversarial", ["tree"], images, rng) == ["key", "lamp", "bird"]
    absent = choose_absent("random", ["tree"], images, rng)
    assert len(set(absent)) == 3
    assert "tree" not in absent

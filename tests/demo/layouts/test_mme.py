"""Two lines an image, one Yes and one No, true of the scene."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from kvtool.demo.language import NUMBERS, plural, with_article
from kvtool.demo.layouts.mme import SUBSETS, draw_picture
from kvtool.demo.world import COLORS, Scene, categories


@pytest.mark.slow
@pytest.mark.parametrize("subset", SUBSETS)
def test_each_image_has_both_answers_and_they_are_true(world: Path, subset: str) -> None:
    folder = world / "mme" / subset
    texts = sorted(folder.glob("*.txt"))
    assert len(texts) == 15
    assert [path.stem for path in texts] == [path.stem for path in sorted(folder.glob("*.jpg"))]
    for index, path in enumerate(texts):
        scene, _, _ = draw_picture(0, subset, index)
        with Image.open(path.with_suffix(".jpg")) as image:
            assert image.size == scene.size_wh
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        assert sorted(answer for _, answer in lines) == ["No", "Yes"]
        for question, answer in lines:
            assert question.endswith(" Please answer yes or no.")
            assert truth(scene, subset, question.removesuffix(" Please answer yes or no.")) == (
                answer == "Yes"
            )


def truth(scene: Scene, subset: str, question: str) -> bool:
    """What the scene says, by listing every question that could be asked of it."""
    names = [thing.category for thing in scene.things]
    if subset == "existence":
        truths = {
            f"Is there {with_article(name)} in this image?": name in names for name in categories()
        }
    elif subset == "color":
        pairs = {(thing.color, thing.category) for thing in scene.things}
        truths = {
            f"Is there {with_article(color)} {name} in the image?": (color, name) in pairs
            for color in COLORS
            for name in categories()
        }
    elif subset == "count":
        truths = {
            f"Is there only one {name} in this image?": names.count(name) == 1 for name in names
        }
        for name in names:
            for n, number in enumerate(NUMBERS):
                truths[f"Are there {number} {plural(name)} in this image?"] = names.count(name) == n
    else:
        truths = {}
        for first in scene.things:
            for second in scene.things:
                (x, y), (other_x, other_y) = first.center_xy_px, second.center_xy_px
                start, end = f"Is the {first.category}", f"the {second.category}?"
                truths[f"{start} on the left side of {end}"] = x < other_x
                truths[f"{start} on the right side of {end}"] = x > other_x
                truths[f"{start} above {end}"] = y < other_y
                truths[f"{start} below {end}"] = y > other_y
    return truths[question]

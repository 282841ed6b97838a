"""Questions over several images, in the manner of BLINK.

They ask for the same style, for the most similar image, and for the point that corresponds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from kvtool.demo.draw import Rendered, render, sample_rendered
from kvtool.demo.language import CHOICES
from kvtool.demo.questions import SELECT, choice_text
from kvtool.demo.world import SETTINGS, STYLES, Scene, categories, sample_scene, sample_size

SECOND_OR_THIRD = ("the second image", "the third image")
STYLE_PROMPT = "Which image has the same style as the first image?"
SIMILARITY_PROMPT = "Which image is most similar to the first image?"
POINT_PROMPT = "Which point corresponds to the reference point?"
MARK_COLOR = (230, 20, 60)


@dataclass(frozen=True)
class Comparison:
    """Images (H, W, 3) in the order of the prompt, and a question on all of them.

    The answer is one of `(A)` to `(D)`.
    """

    images: tuple[npt.NDArray[np.uint8], ...]
    scenes: tuple[Scene, ...]
    text: str
    options: tuple[str, ...]
    answer: str
    kind: str


def _second_or_third(
    rng: np.random.Generator, first: Scene, right: Scene, wrong: Scene, text: str, kind: str
) -> Comparison:
    # The right image is second or third by chance: its place says nothing.
    position = int(rng.integers(2))
    scenes = (first, right, wrong) if position == 0 else (first, wrong, right)
    return Comparison(
        images=tuple(render(scene).image for scene in scenes),
        scenes=scenes,
        text=f"{text} {SELECT} {choice_text(SECOND_OR_THIRD)}",
        options=SECOND_OR_THIRD,
        answer=CHOICES[position],
        kind=kind,
    )


def same_style(rng: np.random.Generator, size_wh: tuple[int, int] | None = None) -> Comparison:
    """Draw three unlike scenes by day, of which one of the last two has the style of the first."""
    right, wrong = (STYLES[int(index)] for index in rng.permutation(len(STYLES))[:2])
    size_wh = size_wh or sample_size(rng)
    scenes = [
        sample_scene(rng, size_wh=size_wh, style=style, time="day")
        for style in (right, right, wrong)
    ]
    return _second_or_third(rng, scenes[0], scenes[1], scenes[2], STYLE_PROMPT, "art_style")


def most_similar(rng: np.random.Generator, size_wh: tuple[int, int] | None = None) -> Comparison:
    """Draw three scenes, of which one of the last two is like the first.

    It shows the categories and the place of the first; the other shares neither.
    """
    size_wh = size_wh or sample_size(rng)
    first = sample_scene(rng, size_wh=size_wh, n_things=2, time="day", style="flat")
    names = [thing.category for thing in first.things]
    right = sample_scene(
        rng, size_wh=size_wh, categories=names, setting=first.setting, time="day", style="flat"
    )
    # The wrong image shares no category and no background with the first.
    absent = [name for name in categories() if name not in names]
    unlike = [absent[int(index)] for index in rng.permutation(len(absent))[: len(names)]]
    backgrounds = [background for background in SETTINGS if background != first.setting]
    background = backgrounds[rng.integers(len(backgrounds))]
    wrong = sample_scene(
        rng, size_wh=size_wh, categories=unlike, setting=background, time="day", style="flat"
    )
    return _second_or_third(rng, first, right, wrong, SIMILARITY_PROMPT, "similarity")


def mark_points(
    image: npt.NDArray[np.uint8], points_xy_px: Sequence[tuple[float, float]], labels: Sequence[str]
) -> npt.NDArray[np.uint8]:
    """Return a copy of the image (H, W, 3) with a ring and a label at each point.

    An empty label leaves the ring alone.
    """
    canvas = Image.fromarray(image)
    painter = ImageDraw.Draw(canvas)
    # Marks grow with the picture, so that they can be seen after it is resized.
    radius = max(2.0, min(canvas.size) * 0.03)
    font = ImageFont.load_default(size=max(9.0, min(canvas.size) * 0.1))
    for (x, y), label in zip(points_xy_px, labels, strict=True):
        painter.ellipse(
            (x - radius, y - radius, x + radius, y + radius), outline=MARK_COLOR, width=2
        )
        painter.text(
            (x + radius, y - 2 * radius),
            label,
            fill=MARK_COLOR,
            font=font,
            stroke_width=1,
            stroke_fill=(255, 255, 255),
        )
    return np.asarray(canvas)


def _scene_of(
    rng: np.random.Generator, category: str, size_wh: tuple[int, int]
) -> tuple[Scene, Rendered]:
    """Draw a big thing of the category in the middle of a scene by day."""
    scene, _ = sample_rendered(
        rng, size_wh=size_wh, categories=[category], time="day", style="flat"
    )
    width, height = size_wh
    # Both things fill their pictures, in whatever look and pose they were drawn.
    thing = replace(
        scene.things[0], scale_px=0.7 * min(size_wh), center_xy_px=(width / 2, height / 2)
    )
    scene = replace(scene, things=(thing,))
    return scene, render(scene)


def _visible_points(rendered: Rendered) -> dict[str, tuple[float, float]]:
    """Return the visible keypoints of the first thing, part -> (x, y) in pixels."""
    keypoints = rendered.keypoints_xy_px[0]
    return {part: (x, y) for part, (x, y, visible) in keypoints.items() if visible}


def corresponding_point(
    rng: np.random.Generator, size_wh: tuple[int, int] | None = None
) -> Comparison:
    """Draw a category twice, with a part marked in the first image and four parts in the second."""
    size_wh = size_wh or sample_size(rng)
    shared: list[str] = []
    # A pair whose images share fewer parts than there are choices is drawn again.
    while len(shared) < len(CHOICES):
        category = categories()[rng.integers(len(categories()))]
        first, first_drawing = _scene_of(rng, category, size_wh)
        second, second_drawing = _scene_of(rng, category, size_wh)
        first_points = _visible_points(first_drawing)
        second_points = _visible_points(second_drawing)
        shared = [part for part in first_points if part in second_points]
    # Other parts of the same thing are the distractors, in an order that says nothing.
    marked = [shared[int(index)] for index in rng.permutation(len(shared))[: len(CHOICES)]]
    answer = int(rng.integers(len(CHOICES)))
    letters = [choice.strip("()") for choice in CHOICES]
    options = tuple(f"point {letter}" for letter in letters)
    reference = mark_points(first_drawing.image, [first_points[marked[answer]]], [""])
    candidates = mark_points(
        second_drawing.image, [second_points[part] for part in marked], letters
    )
    return Comparison(
        images=(reference, candidates),
        scenes=(first, second),
        text=f"{POINT_PROMPT} {SELECT} {choice_text(options)}",
        options=options,
        answer=CHOICES[answer],
        kind="correspondence",
    )

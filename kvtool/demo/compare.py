"""Questions over several images: same style, most similar, and which marked point corresponds (BLINK's manner)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from kvtool.demo.draw import render, sample_rendered
from kvtool.demo.language import CHOICES
from kvtool.demo.questions import SELECT, choice_text
from kvtool.demo.world import PLACES, STYLES, Scene, categories, sample_scene, sample_size

SECOND_OR_THIRD = ("the second image", "the third image")
STYLE_PROMPT = "Which image has the same style as the first image?"
SIMILARITY_PROMPT = "Which image is most similar to the first image?"
POINT_PROMPT = "Which point corresponds to the reference point?"
MARK_COLOR = (230, 20, 60)


@dataclass(frozen=True)
class Comparison:
    """Images (H, W, 3) in the order of the prompt, the question on all of them, and the answer `(A)` to `(D)`."""

    images: tuple[npt.NDArray[np.uint8], ...]
    scenes: tuple[Scene, ...]
    text: str
    options: tuple[str, ...]
    answer: str
    kind: str


def _second_or_third(
    rng: np.random.Generator, first: Scene, right: Scene, wrong: Scene, text: str, kind: str
) -> Comparison:
    at = int(rng.integers(2))
    scenes = (first, right, wrong) if at == 0 else (first, wrong, right)
    return Comparison(
        images=tuple(render(scene).image for scene in scenes),
        scenes=scenes,
        text=f"{text} {SELECT} {choice_text(SECOND_OR_THIRD)}",
        options=SECOND_OR_THIRD,
        answer=CHOICES[at],
        kind=kind,
    )


def same_style(rng: np.random.Generator, size_wh: tuple[int, int] | None = None) -> Comparison:
    """Three unlike scenes by day; one of the last two is drawn in the style of the first."""
    right, wrong = (STYLES[int(index)] for index in rng.permutation(len(STYLES))[:2])
    size_wh = size_wh or sample_size(rng)
    scenes = [
        sample_scene(rng, size_wh=size_wh, style=style, time="day")
        for style in (right, right, wrong)
    ]
    return _second_or_third(rng, scenes[0], scenes[1], scenes[2], STYLE_PROMPT, "art_style")


def most_similar(rng: np.random.Generator, size_wh: tuple[int, int] | None = None) -> Comparison:
    """One of the last two images shows the categories and the place of the first, the other shares neither."""
    size_wh = size_wh or sample_size(rng)
    first = sample_scene(rng, size_wh=size_wh, n_things=2, time="day", style="flat")
    names = [thing.category for thing in first.things]
    right = sample_scene(
        rng, size_wh=size_wh, categories=names, place=first.place, time="day", style="flat"
    )
    others = [name for name in categories() if name not in names]
    unlike = [others[int(index)] for index in rng.permutation(len(others))[: len(names)]]
    places = [place for place in PLACES if place != first.place]
    place = places[rng.integers(len(places))]
    wrong = sample_scene(
        rng, size_wh=size_wh, categories=unlike, place=place, time="day", style="flat"
    )
    return _second_or_third(rng, first, right, wrong, SIMILARITY_PROMPT, "similarity")


def mark_points(
    image: npt.NDArray[np.uint8], points_xy_px: Sequence[tuple[float, float]], labels: Sequence[str]
) -> npt.NDArray[np.uint8]:
    """A copy of the image with a ring and a letter at each point (no letter for an empty label)."""
    canvas = Image.fromarray(image)
    painter = ImageDraw.Draw(canvas)
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


def corresponding_point(
    rng: np.random.Generator, size_wh: tuple[int, int] | None = None
) -> Comparison:
    """The same category twice; a part is marked in the first image, four parts in the second."""
    size_wh = size_wh or sample_size(rng)
    while True:
        name = categories()[rng.integers(len(categories()))]
        scenes, images, points = [], [], []
        for _ in range(2):
            scene, _ = sample_rendered(
                rng, size_wh=size_wh, categories=[name], time="day", style="flat"
            )
            width, height = size_wh
            thing = replace(
                scene.things[0], scale_px=0.7 * min(size_wh), center_xy_px=(width / 2, height / 2)
            )
            scene = replace(scene, things=(thing,))
            rendered = render(scene)
            scenes.append(scene)
            images.append(rendered.image)
            points.append(
                {part: (x, y) for part, (x, y, seen) in rendered.keypoints_xy_px[0].items() if seen}
            )
        shared = [part for part in points[0] if part in points[1]]
        if len(shared) >= len(CHOICES):
            break
    chosen = [shared[int(index)] for index in rng.permutation(len(shared))[: len(CHOICES)]]
    answer = int(rng.integers(len(CHOICES)))
    options = tuple(f"point {letter.strip('()')}" for letter in CHOICES)
    return Comparison(
        images=(
            mark_points(images[0], [points[0][chosen[answer]]], [""]),
            mark_points(
                images[1],
                [points[1][part] for part in chosen],
                [letter.strip("()") for letter in CHOICES],
            ),
        ),
        scenes=tuple(scenes),
        text=f"{POINT_PROMPT} {SELECT} {choice_text(options)}",
        options=options,
        answer=CHOICES[answer],
        kind="correspondence",
    )

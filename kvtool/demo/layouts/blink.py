"""BLINK: <subset>/{val,test}-00000-of-00001.parquet with embedded images; the answers of test are `hidden`.

Seven of BLINK's subsets, those with a counterpart in the world. Spatial_Relation answers yes or no, Art_Style and
Visual_Similarity the second or the third image, the others a letter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from kvtool.demo import compare
from kvtool.demo.draw import sample_rendered
from kvtool.demo.layouts.files import Size, stream, touches
from kvtool.demo.layouts.parquet import ChoiceRecord, as_choice, embedded, save_table
from kvtool.demo.questions import KINDS, YES_NO
from kvtool.demo.world import categories

N_QUESTIONS: dict[Size, dict[str, int]] = {
    "small": {"val": 12, "test": 3},
    "medium": {"val": 60, "test": 10},
    "large": {"val": 400, "test": 400},
}
"""Questions of each subset and split; some 120 to 140 in the benchmark itself."""
COLUMNS = {
    "idx": "string",
    "question": "string",
    "sub_task": "string",
    **{f"image_{number}": "image" for number in (1, 2, 3, 4)},
    "choices": "strings",
    "answer": "string",
    "prompt": "string",
}
Drawn = tuple[npt.NDArray[np.uint8], ...]
Item = tuple[Drawn, ChoiceRecord]


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the benchmark into the empty folder; the number of images."""
    n_images = 0
    for subset, make in SUBSETS.items():
        for split, count in N_QUESTIONS[size].items():
            rows = []
            for index in range(count):
                idx = f"{split}_{subset}_{index + 1}"
                images, choice = make(stream(seed, "blink", subset, split, index))
                n_images += len(images)
                cells = [
                    embedded(image, f"{idx}_{number}.jpg") for number, image in enumerate(images, 1)
                ]
                rows.append(
                    {
                        "idx": idx,
                        "question": choice.question,
                        "sub_task": subset,
                        **{f"image_{number}": cell for number, cell in enumerate(cells, 1)},
                        "choices": list(choice.options),
                        "answer": choice.answer if split == "val" else "hidden",
                        "prompt": choice.prompt,
                    }
                )
            save_table(folder / subset / f"{split}-00000-of-00001.parquet", COLUMNS, rows)
    return n_images


def _compared(
    make: Callable[[np.random.Generator], compare.Comparison],
) -> Callable[[np.random.Generator], Item]:
    def item(rng: np.random.Generator) -> Item:
        made = make(rng)
        question = made.text.partition(" Select")[0]
        return made.images, ChoiceRecord(question, made.options, made.answer)

    return item


def counting(rng: np.random.Generator) -> Item:
    scene, rendered = sample_rendered(rng)
    asked = KINDS["count_choice"](scene, rng)
    assert asked is not None  # every scene has something to count
    return (rendered.image,), as_choice(asked)


def spatial_relation(rng: np.random.Generator) -> Item:
    """Is the one left of, above, ... the other: yes or no."""
    while True:
        scene, rendered = sample_rendered(rng)
        asked = KINDS["relation_yes_no"](scene, rng)
        if asked is not None:
            question = asked.text.removesuffix(f" {YES_NO}")
            return (rendered.image,), ChoiceRecord(
                question, ("yes", "no"), "(A)" if asked.answer == "yes" else "(B)"
            )


def relative_depth(rng: np.random.Generator) -> Item:
    """Two things, one partly behind the other, each with a marked point: which point is closer to the camera."""
    while True:
        scene, rendered = sample_rendered(rng, n_things=2, overlap=0.5, time="day", style="flat")
        asked = KINDS["depth_choice"](scene, rng)
        points = [
            next(((x, y) for x, y, seen in found.values() if seen), None)
            for found in rendered.keypoints_xy_px
        ]
        hidden = touches(rendered.thing_map, 0, 1)
        if asked is None or not hidden or points[0] is None or points[1] is None:
            continue
        first = int(rng.integers(2))
        placed = [points[first], points[1 - first]]
        image = compare.mark_points(
            rendered.image, [point for point in placed if point], ["A", "B"]
        )
        choice = ChoiceRecord(
            "Which point is closer to the camera?",
            ("A is closer", "B is closer"),
            "(A)" if first else "(B)",
        )
        return (image,), choice


def object_localization(rng: np.random.Generator) -> Item:
    """Two boxes, one around the thing, the other shifted and scaled so that it covers less than half of it."""
    names = [str(name) for name in rng.permutation(categories())[: rng.integers(1, 3)]]
    scene, rendered = sample_rendered(rng, categories=names, time="day", style="flat")
    box = rendered.boxes_xyxy_px[0]
    assert box is not None  # sample_rendered returns visible things
    wrong = shifted(box, scene.size_wh, rng)
    first = int(rng.integers(2))
    image = draw_boxes(rendered.image, (box, wrong) if first == 0 else (wrong, box))
    question = f"Which bounding box is around the {scene.things[0].category}?"
    return (image,), ChoiceRecord(question, ("Box A", "Box B"), "(A)" if first == 0 else "(B)")


def shifted(
    box: tuple[int, int, int, int], size_wh: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A box of about the same size inside the picture whose IoU with the given one is 0.1 to 0.5."""
    x0, y0, x1, y1 = box
    while True:
        width, height = (
            max(8, round(side * float(rng.uniform(0.7, 1.2)))) for side in (x1 - x0, y1 - y0)
        )
        left = x0 + round((x1 - x0) * float(rng.uniform(-0.7, 0.7)))
        top = y0 + round((y1 - y0) * float(rng.uniform(-0.7, 0.7)))
        left, top = max(0, min(left, size_wh[0] - width)), max(0, min(top, size_wh[1] - height))
        found = (left, top, min(left + width, size_wh[0]), min(top + height, size_wh[1]))
        if 0.1 <= iou(box, found) <= 0.5:
            return found


def iou(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (box, other)]
    return shared / (sum(areas) - shared)


def draw_boxes(
    image: npt.NDArray[np.uint8], boxes_xyxy_px: tuple[tuple[int, int, int, int], ...]
) -> npt.NDArray[np.uint8]:
    """A copy with the first box in red and named A, the second in blue and named B."""
    canvas = Image.fromarray(image)
    painter = ImageDraw.Draw(canvas)
    for (x0, y0, x1, y1), color, label in zip(
        boxes_xyxy_px, ((220, 20, 20), (20, 60, 220)), "AB", strict=True
    ):
        painter.rectangle((x0, y0, x1 - 1, y1 - 1), outline=color, width=2)
        painter.text(
            (x0 + 3, y0 + 2), label, fill=color, stroke_width=1, stroke_fill=(255, 255, 255)
        )
    return np.asarray(canvas)


SUBSETS: dict[str, Callable[[np.random.Generator], Item]] = {
    "Art_Style": _compared(compare.same_style),
    "Counting": counting,
    "Object_Localization": object_localization,
    "Relative_Depth": relative_depth,
    "Semantic_Correspondence": _compared(compare.corresponding_point),
    "Spatial_Relation": spatial_relation,
    "Visual_Similarity": _compared(compare.most_similar),
}

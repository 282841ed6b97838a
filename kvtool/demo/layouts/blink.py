"""The layout of BLINK: <subset>/{val,test}-00000-of-00001.parquet with embedded images.

There are seven of BLINK's subsets, those with a counterpart in the world; the answers of test are
`hidden`. The options of Spatial_Relation are yes and no, those of Art_Style and Visual_Similarity
the second and the third image.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from kvtool.demo import compare
from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.layouts.files import Size, stream, touches
from kvtool.demo.layouts.parquet import ChoiceRecord, as_choice, embedded, save_table
from kvtool.demo.questions import KINDS, YES_NO
from kvtool.demo.world import categories

N_QUESTIONS: dict[Size, dict[str, int]] = {
    "small": {"val": 12, "test": 3},
    "medium": {"val": 60, "test": 10},
    "large": {"val": 400, "test": 400},
}
"""The number of questions of each subset and split; the benchmark itself has 120 to 140."""
COLUMNS = {
    "idx": "string",
    "question": "string",
    "sub_task": "string",
    **{f"image_{number}": "image" for number in (1, 2, 3, 4)},
    "choices": "strings",
    "answer": "string",
    "prompt": "string",
}
Box = tuple[int, int, int, int]
Images = tuple[npt.NDArray[np.uint8], ...]
Item = tuple[Images, ChoiceRecord]
BOX_COLORS = ((220, 20, 20), (20, 60, 220))


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the benchmark into the empty folder, and return the number of images."""
    n_images = 0
    for subset, make in SUBSETS.items():
        for split, count in N_QUESTIONS[size].items():
            rows = []
            for index in range(count):
                idx = f"{split}_{subset}_{index + 1}"
                images, choice = make(stream(seed, "blink", subset, split, index))
                n_images += len(images)
                rows.append(_row(idx, subset, images, choice, hidden=split != "val"))
            save_table(folder / subset / f"{split}-00000-of-00001.parquet", COLUMNS, rows)
    return n_images


def _row(
    idx: str, subset: str, images: Images, choice: ChoiceRecord, hidden: bool
) -> dict[str, Any]:
    row: dict[str, Any] = {"idx": idx, "question": choice.question, "sub_task": subset}
    for number, image in enumerate(images, 1):
        row[f"image_{number}"] = embedded(image, f"{idx}_{number}.jpg")
    row["choices"] = list(choice.options)
    row["answer"] = "hidden" if hidden else choice.answer
    row["prompt"] = choice.prompt
    return row


def _compared(
    make: Callable[[np.random.Generator], compare.Comparison],
) -> Callable[[np.random.Generator], Item]:
    def item(rng: np.random.Generator) -> Item:
        """Turn a comparison of the world into a question of the benchmark."""
        comparison = make(rng)
        question = comparison.text.partition(" Select")[0]
        return comparison.images, ChoiceRecord(question, comparison.options, comparison.answer)

    return item


def counting(rng: np.random.Generator) -> Item:
    """Ask how many things of a category there are, with four numbers to choose from."""
    scene, rendered = sample_rendered(rng)
    question = KINDS["count_choice"](scene, rng)
    assert question is not None  # every scene has something to count
    return (rendered.image,), as_choice(question)


def spatial_relation(rng: np.random.Generator) -> Item:
    """Ask whether a thing is left of, right of, above or below another: yes or no."""
    while True:
        scene, rendered = sample_rendered(rng)
        question = KINDS["relation_yes_no"](scene, rng)
        if question is not None:
            text = question.text.removesuffix(f" {YES_NO}")
            answer = "(A)" if question.answer == "yes" else "(B)"
            return (rendered.image,), ChoiceRecord(text, ("yes", "no"), answer)


def relative_depth(rng: np.random.Generator) -> Item:
    """Mark a point on each of two things, and ask which point is closer to the camera.

    One thing is partly behind the other, so that the picture says which one is in front.
    """
    while True:
        scene, rendered = sample_rendered(rng, n_things=2, overlap=0.5, time="day", style="flat")
        question = KINDS["depth_choice"](scene, rng)
        # Marks lie where each thing can be seen.
        back, front = (_visible_point(rendered, index) for index in range(2))
        overlapping = touches(rendered.thing_map, 0, 1)
        if question is None or not overlapping or back is None or front is None:
            continue
        front_first = bool(rng.integers(2))
        points = [front, back] if front_first else [back, front]
        image = compare.mark_points(rendered.image, points, ["A", "B"])
        options = ("A is closer", "B is closer")
        answer = "(A)" if front_first else "(B)"
        return (image,), ChoiceRecord("Which point is closer to the camera?", options, answer)


def _visible_point(rendered: Rendered, index: int) -> tuple[float, float] | None:
    """Return the first keypoint (x, y) of a thing that can be seen, if there is one."""
    for x, y, visible in rendered.keypoints_xy_px[index].values():
        if visible:
            return x, y
    return None


def object_localization(rng: np.random.Generator) -> Item:
    """Draw two boxes, and ask which one is around the thing.

    The wrong one is shifted and scaled, so that their IoU is a half at most.
    """
    names = [str(name) for name in rng.permutation(categories())[: rng.integers(1, 3)]]
    scene, rendered = sample_rendered(rng, categories=names, time="day", style="flat")
    box = rendered.boxes_xyxy_px[0]
    assert box is not None  # sample_rendered returns visible things
    wrong = shifted(box, scene.size_wh, rng)
    first = int(rng.integers(2))
    image = draw_boxes(rendered.image, (box, wrong) if first == 0 else (wrong, box))
    question = f"Which bounding box is around the {scene.things[0].category}?"
    return (image,), ChoiceRecord(question, ("Box A", "Box B"), "(A)" if first == 0 else "(B)")


def shifted(box: Box, size_wh: tuple[int, int], rng: np.random.Generator) -> Box:
    """Draw a box of about the same size whose IoU with the given one is 0.1 to 0.5."""
    x0, y0, x1, y1 = box
    while True:
        width, height = (
            max(8, round(side * float(rng.uniform(0.7, 1.2)))) for side in (x1 - x0, y1 - y0)
        )
        x = x0 + round((x1 - x0) * float(rng.uniform(-0.7, 0.7)))
        y = y0 + round((y1 - y0) * float(rng.uniform(-0.7, 0.7)))
        x = max(0, min(x, size_wh[0] - width))
        y = max(0, min(y, size_wh[1] - height))
        # Shifted boxes are kept in the picture, which may change their IoU.
        candidate = (x, y, min(x + width, size_wh[0]), min(y + height, size_wh[1]))
        if 0.1 <= iou(box, candidate) <= 0.5:
            return candidate


def iou(first: Box, second: Box) -> float:
    """Divide the intersection of two boxes (x0, y0, x1, y1) by their union."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    intersection = max(width, 0) * max(height, 0)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second)]
    return intersection / (sum(areas) - intersection)


def draw_boxes(
    image: npt.NDArray[np.uint8], boxes_xyxy_px: tuple[Box, Box]
) -> npt.NDArray[np.uint8]:
    """Return a copy of the image with the first box in red as A, the second in blue as B."""
    canvas = Image.fromarray(image)
    painter = ImageDraw.Draw(canvas)
    for (x0, y0, x1, y1), color, label in zip(boxes_xyxy_px, BOX_COLORS, "AB", strict=True):
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

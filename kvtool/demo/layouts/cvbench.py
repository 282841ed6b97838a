"""The layout of CV-Bench: test_2d.parquet and test_3d.parquet with embedded images.

The tasks are Count, Relation, Depth and Distance. The 2D questions say ADE20K or COCO as their
source in turn and the 3D ones Omni3D, because the official score is taken by source;
`source_dataset` says that they are scenes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.demo.draw import Rendered, render, visible_enough
from kvtool.demo.language import plural
from kvtool.demo.layouts.files import Size, stream, touches
from kvtool.demo.layouts.parquet import ChoiceRecord, as_choice, embedded, save_table
from kvtool.demo.questions import KINDS, SceneQuestion
from kvtool.demo.questions import as_choice as with_options
from kvtool.demo.questions.wording import things_alone
from kvtool.demo.world import Scene, sample_scene

N_QUESTIONS: dict[Size, int] = {"small": 12, "medium": 60, "large": 600}
"""The number of questions of each task."""
COLUMNS = {
    "idx": "int64",
    "type": "string",
    "task": "string",
    "image": "image",
    "question": "string",
    "choices": "strings",
    "answer": "string",
    "prompt": "string",
    "filename": "string",
    "source": "string",
    "source_dataset": "string",
    "source_filename": "string",
    "target_class": "string",
    "target_size": "int64",
    "bbox": "boxes",
}


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the benchmark into the empty folder, and return the number of images."""
    n_images = 0
    for kind, tasks in TASKS.items():
        rows: list[dict[str, Any]] = []
        for task, make in tasks.items():
            for index in range(N_QUESTIONS[size]):
                drawing = draw_question(make, stream(seed, "cvbench", task, index))
                rows.append(_row(n_images + len(rows), kind, task, index, *drawing))
        n_images += len(rows)
        save_table(folder / f"test_{kind.lower()}.parquet", COLUMNS, rows)
    return n_images


Make = Callable[[Scene, np.random.Generator], SceneQuestion | None]


def subjects(scene: Scene, question: str) -> list[int]:
    """Return the indices of the things whose category the question names."""
    tokens = re.findall(r"[a-z]+", question)
    return [
        i
        for i, thing in enumerate(scene.things)
        if thing.category in tokens or plural(thing.category) in tokens
    ]


def draw_question(make: Make, rng: np.random.Generator) -> tuple[Scene, Rendered, ChoiceRecord]:
    """Draw a scene that allows the question; return the scene, its drawing, and the question."""
    while True:
        # Scenes that do not allow the question, or hide what it is about, are drawn again.
        scene = sample_scene(rng)
        question = make(scene, rng)
        if question is None:
            continue
        rendered = render(scene)
        if not visible_enough(scene, rendered):
            continue
        choice = as_choice(question)
        if question.kind != "depth_choice":
            return scene, rendered, choice
        # What is in front is only seen where the two meet.
        back, front = subjects(scene, choice.question)
        if touches(rendered.thing_map, back, front):
            return scene, rendered, choice


def distance(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask which of two things is nearer to a third.

    Between centers, the shorter way is two thirds of the longer one at most.
    """
    things = things_alone(scene)
    if len(things) < 3:
        return None
    # Things that stand alone in their category can be named.
    target, *candidates = (things[int(index)] for index in rng.permutation(len(things))[:3])
    lengths = [
        float(np.hypot(*np.subtract(target.center_xy_px, thing.center_xy_px)))
        for thing in candidates
    ]
    if min(lengths) > 0.67 * max(lengths):
        return None
    first, second = (thing.category for thing in candidates)
    text = f"Which object is closer to the {target.category}, the {first} or the {second}?"
    nearer = candidates[int(np.argmin(lengths))].category
    return with_options(rng, text, (first, second), nearer, "distance")


TASKS: dict[str, dict[str, Make]] = {
    "2D": {"Count": KINDS["count_choice"], "Relation": KINDS["relation_choice"]},
    "3D": {"Depth": KINDS["depth_choice"], "Distance": distance},
}


def _row(
    idx: int,
    kind: str,
    task: str,
    index: int,
    scene: Scene,
    rendered: Rendered,
    choice: ChoiceRecord,
) -> dict[str, Any]:
    # Two sources of the 2D tasks, since scores are averaged within each.
    source = ("ADE20K", "COCO")[index % 2] if kind == "2D" else "Omni3D"
    name = f"img/{kind}/{task.lower()}/{source.lower()}_{index}.jpg"
    indices = subjects(scene, choice.question)
    return {
        "idx": idx,
        "type": kind,
        "task": task,
        "image": embedded(rendered.image, name.rpartition("/")[2]),
        "question": choice.question,
        "choices": list(choice.options),
        "answer": choice.answer,
        "prompt": choice.prompt,
        "filename": name,
        "source": source,
        "source_dataset": "scenes",
        "source_filename": name.rpartition("/")[2],
        "target_class": scene.things[indices[0]].category if task == "Count" else None,
        "target_size": len(indices) if task == "Count" else None,
        "bbox": [list(map(float, rendered.boxes_xyxy_px[i] or ())) for i in indices],
    }

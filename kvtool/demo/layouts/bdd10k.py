"""The layout of BDD-10K: images, masks, and the label files with attributes.

    images/10k/{train,val}/<name>.jpg
    labels/sem_seg/masks/{train,val}/<name>.png
    labels/det_20/det_{train,val}.json

The 10K images carry no attributes: those stand in the label files of the 100K set, which miss a few
of the 10K images and hold many others, as here. Masks have the 19 train ids and 255. Frames are
16:9, but smaller than BDD's 1280 x 720.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scipy import ndimage

from kvtool.demo.draw import Rendered
from kvtool.demo.layouts.files import Labels, Size, save_jpeg, save_json, save_png, stream
from kvtool.demo.street import TRAIN_IDS, Street, render_street, sample_street

SIZE_WH_PX = (256, 144)
N_IMAGES: dict[Size, dict[str, int]] = {
    "small": {"train": 12, "val": 32},
    "medium": {"train": 40, "val": 160},
    "large": {"train": 1000, "val": 1000},
}
DETECTED = {
    "person": "pedestrian",
    "car": "car",
    "truck": "truck",
    "bus": "bus",
    "traffic light": "traffic light",
    "traffic sign": "traffic sign",
}
"""Name of a train id -> category of the detection labels."""
CYCLE = (
    *3 * (("city street", "day"), ("highway", "night")),
    ("city street", "night"),
    ("highway", "day"),
)
TIME_OF_DAY = {"day": "daytime", "night": "night"}
UNLABELED_EVERY = 16
"""Every 16th image has no attributes."""
N_FOREIGN = 4
"""So many frames of a label file have no image."""
IGNORED_ROWS = 4
"""The last rows of a mask are 255, as the ego car's hood often is."""


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder, and return the number of images."""
    for split, count in N_IMAGES[size].items():
        # The official label files name frames of other parts, too.
        frames = [_foreign_frame(seed, split, count + number) for number in range(N_FOREIGN)]
        for index in range(count):
            street, rendered = draw_picture(seed, split, index)
            stem = _stem(seed, split, index)
            save_jpeg(folder / "images" / "10k" / split / f"{stem}.jpg", rendered.image)
            save_png(
                folder / "labels" / "sem_seg" / "masks" / split / f"{stem}.png",
                class_labels(rendered),
            )
            # Some pictures lack attributes, as in the official files.
            if index % UNLABELED_EVERY != UNLABELED_EVERY // 2:
                frames.append(_frame(f"{stem}.jpg", street, rendered))
        save_json(
            folder / "labels" / "det_20" / f"det_{split}.json",
            sorted(frames, key=lambda frame: frame["name"]),
        )
    return sum(N_IMAGES[size].values())


def draw_picture(seed: int, split: str, index: int) -> tuple[Street, Rendered]:
    """Draw a street.

    Of eight in a row three are of either domain of the paper, city by day and highway at night.
    """
    kind, time = CYCLE[index % len(CYCLE)]
    street = sample_street(
        stream(seed, "bdd10k", split, index),
        size_wh=SIZE_WH_PX,
        kind=kind,
        time=time,
    )
    return street, render_street(street)


def _foreign_frame(seed: int, split: str, index: int) -> dict[str, Any]:
    """Return a frame of the 100K set that is not among the 10K images."""
    street = sample_street(stream(seed, "bdd100k", split, index), size_wh=SIZE_WH_PX)
    return _frame(f"{_stem(seed, split, index)}.jpg", street, render_street(street))


def _stem(seed: int, split: str, index: int) -> str:
    """Return two groups of eight hexadecimal digits, as BDD's names are."""
    first, second = stream(seed, "bdd10k name", split, index).integers(2**32, size=2)
    return f"{first:08x}-{second:08x}"


def class_labels(rendered: Rendered) -> Labels:
    """Return the train ids 0 to 18, and 255 where a pixel does not count, (H, W)."""
    assert rendered.class_map is not None  # streets always have one
    labels = rendered.class_map.copy()
    labels[-IGNORED_ROWS:] = 255
    return labels


def _frame(name: str, street: Street, rendered: Rendered) -> dict[str, Any]:
    """Return an entry of the label file: the frame's attributes and boxes.

    Each connected region of a detected class has a box.
    """
    assert rendered.class_map is not None  # streets always have one
    labels: list[dict[str, Any]] = []
    # Regions of the label map stand for objects, which streets do not have.
    for class_name, category in DETECTED.items():
        regions, _ = ndimage.label(rendered.class_map == TRAIN_IDS.index(class_name))
        for rows, columns in ndimage.find_objects(regions):
            box = {
                "x1": columns.start,
                "y1": rows.start,
                "x2": columns.stop - 1,
                "y2": rows.stop - 1,
            }
            labels.append(
                {
                    "id": f"{len(labels)}",
                    "attributes": {
                        "occluded": False,
                        "truncated": False,
                        "trafficLightColor": "NA",
                    },
                    "category": category,
                    "box2d": {side: float(value) for side, value in box.items()},
                }
            )
    attributes = {"weather": "clear", "timeofday": TIME_OF_DAY[street.time], "scene": street.kind}
    return {"name": name, "attributes": attributes, "timestamp": 10000, "labels": labels}

"""Small data sets of label maps in their official layouts: PASCAL-5i, MSRC, ImageNet-S, DAVIS,
BDD10K.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.datasets.files import id_png, label_png, picture, write_json, write_text


def pascal(root: Path, fold: int = 0, per_class: int = 7, end: str = "\n") -> Path:
    """`per_class` images of each of the fold's five classes; image 0 carries two classes and a void
    rim.
    """
    lines = []
    for class_id in range(5 * fold + 1, 5 * fold + 6):
        for number in range(per_class):
            name = f"2007_{class_id:02d}{number:04d}"
            lines.append(f"{name}__{class_id:02d}")
            picture(root / f"VOC2012/JPEGImages/{name}.jpg")
            labels = np.zeros((24, 32), np.uint8)
            labels[4:16, 5:20] = class_id
            labels[3, 4:21] = 255
            if number == 0:
                labels[18:22, 2:9] = class_id % 5 + 1 + 5 * fold
            label_png(
                root / f"VOC2012/SegmentationClassAug/{name}.png", labels, palette=number % 2 == 0
            )
    write_text(root / f"splits/pascal/val/fold{fold}.txt", end.join(lines) + end)
    return root


def msrc7(root: Path) -> Path:
    for category in ("bird", "car"):
        for number in range(3):
            picture(root / f"image/{category}/{number}.jpg")
            mask = np.zeros((24, 32), np.uint8)
            mask[4:10, number : number + 8] = 255
            label_png(root / f"groundtruth/{category}/{number}.png", mask, palette=False)
    return root


def imagenet_s(root: Path, classes: int = 50) -> Path:
    """ImageNetS50 with one image of each class; image 0's map has an ignored rim and an id of
    another class.
    """
    base = root / f"ImageNetS{classes}"
    names = []
    for number in range(classes):
        wnid = f"n{1_000_000 + 7 * number:08d}"
        names.append(f"{wnid}\tthing {number}, other word")
        picture(base / f"validation/{wnid}/ILSVRC2012_val_{number:08d}.JPEG")
        ids = np.zeros((24, 32), np.int64)
        ids[5:15, 5:15] = number + 1
        ids[4, 5:15] = 1000
        ids[20:22] = classes
        id_png(base / f"validation-segmentation/{wnid}/ILSVRC2012_val_{number:08d}.png", ids)
    write_text(root / "words.txt", "\n".join(reversed(names)))
    return root


def davis(root: Path, end: str = "\n") -> Path:
    """Three sequences: two objects and void; an object that is gone from frame 1 on; no object at
    all.
    """
    for name, ids in (("two", (1, 2)), ("gone", (1,)), ("nothing", ())):
        for frame in range(4):
            picture(root / f"JPEGImages/480p/{name}/{frame:05d}.jpg", seed=frame)
            labels = np.zeros((24, 32), np.uint8)
            for i in ids if not (name == "gone" and frame) else ():
                labels[2 + frame : 8 + frame, 10 * i : 10 * i + 6] = i
            if name == "two":
                labels[20:22] = 255
            label_png(root / f"Annotations/480p/{name}/{frame:05d}.png", labels)
    write_text(root / "ImageSets/2017/val.txt", end.join(("two", "gone", "nothing")) + end)
    return root


FRAMES = {
    "day1": ("daytime", "city street"),
    "day2": ("daytime", "city street"),
    "night1": ("night", "highway"),
    "dusk1": ("dawn/dusk", "city street"),
    "mixed1": ("night", "city street"),
}


def bdd10k(root: Path) -> Path:
    """Five images with attributes spread over two label files, one image that they miss, one frame
    of another set.
    """
    for name in (*FRAMES, "unlisted"):
        picture(root / f"images/10k/val/{name}.jpg")
        labels = np.full((24, 32), 255, np.uint8)
        labels[:20] = np.arange(20)[:, None] % 19
        label_png(root / f"labels/sem_seg/masks/val/{name}.png", labels, palette=False)
    for file, names in (
        ("train", ("night1", "elsewhere")),
        ("val", ("day1", "day2", "dusk1", "mixed1")),
    ):
        records = [
            {"name": f"{n}.jpg", "attributes": frame_attributes(n), "labels": []} for n in names
        ]
        write_json(root / f"labels/det_20/det_{file}.json", records)
    return root


def frame_attributes(name: str) -> dict[str, str]:
    timeofday, scene = FRAMES.get(name, ("daytime", "highway"))
    return {"weather": "clear", "timeofday": timeofday, "scene": scene}

"""Small real data sets in the official layouts, written by hand here and independent of the scenes writer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]


def write_text(path: Path, text: str) -> Path:
    """Exactly these characters: no translation of line ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def write_json(path: Path, value: Any) -> Path:
    return write_text(path, json.dumps(value))


def picture(path: Path, width: int = 32, height: int = 24, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def label_png(path: Path, labels: Array, palette: bool = True) -> Path:
    """An indexed PNG as VOC and DAVIS have them, or a plain grey one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if palette:
        image.putpalette([(37 * i + c * 91) % 256 for i in range(256) for c in range(3)])
    image.save(path)
    return path


def id_png(path: Path, ids: Array) -> Path:
    """ImageNet-S's RGB PNG: id = R + 256 G."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(path)
    return path


def pair_record(src: str, trg: str, category: str, **changes: Any) -> dict[str, Any]:
    """One PairAnnotation file of SPair-71k; the second source point lies outside the box, as some do."""
    record: dict[str, Any] = {
        "pair_id": 0,
        "category": category,
        "src_imname": f"{src}.jpg",
        "trg_imname": f"{trg}.jpg",
        "src_imsize": [32, 24, 3],
        "trg_imsize": [32, 24, 3],
        "src_kps": [[4, 5], [30, 20]],
        "trg_kps": [[6, 7], [10, 12]],
        "kps_ids": ["0", "4"],
        "src_bndbox": [2, 3, 20, 15],
        "trg_bndbox": [1, 2, 21, 22],
        "mirror": 1,
        "viewpoint_variation": 2,
        "scale_variation": 1,
        "truncation": 3,
        "occlusion": 0,
    }
    return {**record, **changes}


PAIRS = (("a1", "a2", "aeroplane"), ("a2", "a3", "aeroplane"), ("p1", "a1", "pottedplant"), ("d1", "d2", "dog"))


def spair(root: Path, end: str = "\n") -> Path:
    lines = []
    for number, (src, trg, category) in enumerate(PAIRS, 1):
        line = f"{number:06d}-{src}-{trg}:{category}"
        lines.append(line)
        write_json(root / f"PairAnnotation/test/{line}.json", pair_record(src, trg, category))
        for name in (src, trg):
            picture(root / f"JPEGImages/{category}/{name}.jpg")
    write_text(root / "Layout/large/test.txt", end.join(lines) + end)
    return root


def pascal(root: Path, fold: int = 0, per_class: int = 7, end: str = "\n") -> Path:
    """`per_class` images of each of the fold's five classes; image 0 carries two classes and a void rim."""
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
            label_png(root / f"VOC2012/SegmentationClassAug/{name}.png", labels, palette=number % 2 == 0)
    write_text(root / f"splits/pascal/val/fold{fold}.txt", end.join(lines) + end)
    return root


def coco_file(names: Sequence[str], **parts: Any) -> dict[str, Any]:
    """The shell of a COCO annotation file; image ids are the numbers at the end of the names."""
    images = [{"id": int(name.split("_")[-1]), "file_name": f"{name}.jpg", "width": 32, "height": 24} for name in names]
    return {"info": {}, "licenses": [], "images": images, **parts}


def coco(root: Path) -> Path:
    names = [f"COCO_val2014_{i:012d}" for i in (42, 73, 74)]
    for name in names:
        picture(root / f"val2014/{name}.jpg")
    captions = [
        {"id": 20, "image_id": 42, "caption": "A second  caption.\n"},
        {"id": 3, "image_id": 42, "caption": " The first caption.\n"},
        {"id": 5, "image_id": 73, "caption": "Another picture."},
        {"id": 6, "image_id": 999, "caption": "Of an image that is not listed."},
    ]
    write_json(root / "annotations/captions_val2014.json", coco_file(names, annotations=captions))
    write_json(
        root / "annotations/instances_val2014.json",
        coco_file(
            names,
            categories=[{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
            annotations=[
                instance(8, 42, 18, [[2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 20, 8, 20, 20, 8, 20]]),
                instance(7, 42, 1, {"counts": [24 * 4, 24 * 3, 24 * 25], "size": [24, 32]}, iscrowd=1),
                instance(9, 998, 1, [[2, 2, 12, 2, 12, 12]]),
            ],
        ),
    )
    return root


def instance(id: int, image_id: int, category_id: int, segmentation: Any, iscrowd: int = 0) -> dict[str, Any]:
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        "bbox": [2, 2, 18, 18],
        "area": 100.0,
        "iscrowd": iscrowd,
    }

"""A small COCO and RefCOCO in their official layouts."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.datasets.files import picture, write_json


def coco_file(names: Sequence[str], **parts: Any) -> dict[str, Any]:
    """The shell of a COCO annotation file; image ids are the numbers at the end of the names."""
    images = [
        {"id": int(name.split("_")[-1]), "file_name": f"{name}.jpg", "width": 32, "height": 24}
        for name in names
    ]
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
                instance(
                    7, 42, 1, {"counts": [24 * 4, 24 * 3, 24 * 25], "size": [24, 32]}, iscrowd=1
                ),
                instance(9, 998, 1, [[2, 2, 12, 2, 12, 12]]),
            ],
        ),
    )
    return root


def instance(
    id: int, image_id: int, category_id: int, segmentation: Any, iscrowd: int = 0
) -> dict[str, Any]:
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        "bbox": [2, 2, 18, 18],
        "area": 100.0,
        "iscrowd": iscrowd,
    }


def ref(number: int, image_id: int, ann_id: int, split: str, *sentences: str) -> dict[str, Any]:
    """One entry of refs(unc).p; sentence ids are 10 * number + position."""
    return {
        "ref_id": number,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 18,
        "file_name": f"COCO_train2014_{image_id:012d}_{number}.jpg",
        "split": split,
        "sent_ids": [10 * number + i for i in range(len(sentences))],
        "sentences": [
            {"sent_id": 10 * number + i, "raw": f"{s.upper()}!", "sent": s, "tokens": s.split()}
            for i, s in enumerate(sentences)
        ],
    }


def refcoco(root: Path, protocol: int = 2) -> Path:
    names = [f"COCO_train2014_{i:012d}" for i in (5, 6)]
    for name in names:
        picture(root / f"images/mscoco/images/train2014/{name}.jpg")
    annotations = [
        instance(100, 5, 18, [[2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 20, 8, 20, 20, 8, 20]]),
        instance(101, 6, 18, {"counts": [24 * 4, 24 * 3, 24 * 25], "size": [24, 32]}),
        instance(102, 77, 18, [[1, 1, 5, 1, 5, 5]]),
    ]
    parts = {"annotations": annotations, "categories": [{"id": 18, "name": "dog"}]}
    write_json(root / "refcoco/instances.json", coco_file(names, **parts))
    refs = [
        ref(0, 6, 101, "val", "left dog", "the dog"),
        ref(1, 5, 100, "val", "the dog"),
        ref(2, 5, 100, "testA", "brown dog"),
        ref(3, 5, 999, "val", "an annotation that is not there"),
        ref(4, 77, 102, "val", "an image that is not there"),
    ]
    (root / "refcoco/refs(unc).p").write_bytes(pickle.dumps(refs, protocol=protocol))
    return root


def captions(root: Path) -> Path:
    record = coco_file(
        ["COCO_train2014_000000000005"],
        annotations=[{"id": 1, "image_id": 5, "caption": "A dog\n runs."}],
    )
    return write_json(root / "images/mscoco/annotations/captions_train2014.json", record)

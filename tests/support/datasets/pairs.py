"""A small SPair-71k in its official layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.datasets.files import picture, write_json, write_text


def pair_record(src: str, trg: str, category: str, **changes: Any) -> dict[str, Any]:
    """One PairAnnotation file of SPair-71k; the second source point lies outside the box, as some
    do.
    """
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


PAIRS = (
    ("a1", "a2", "aeroplane"),
    ("a2", "a3", "aeroplane"),
    ("p1", "a1", "pottedplant"),
    ("d1", "d2", "dog"),
)


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

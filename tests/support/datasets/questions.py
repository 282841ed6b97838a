"""Small question benchmarks in their official layouts: POPE, MME, BLINK, CV-Bench."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.support.datasets.files import picture, write_text


def pope(root: Path, end: str = "\n") -> Path:
    """Two questions a file on two images; the images lie in a coco folder beside."""
    names = [f"COCO_val2014_{i:012d}.jpg" for i in (42, 73)]
    for name in names:
        picture(root.parent / f"coco/val2014/{name}")
    for file in ("random", "popular", "adversarial"):
        lines = [
            {
                "question_id": i,
                "image": name,
                "text": f"Is there a {file} thing in the image?",
                "label": label,
            }
            for i, (name, label) in enumerate(zip(names, ("yes", "no"), strict=True), 1)
        ]
        write_text(
            root / f"coco_pope_{file}.json", "".join(json.dumps(line) + end for line in lines)
        )
    return root


def mme(root: Path, end: str = "\n") -> Path:
    for subset in ("count", "color", "position", "existence"):
        for number in (1, 2):
            picture(root / f"{subset}/{number:06d}.jpg")
            text = (
                f"Is it {subset} a? Please answer yes or no.\tYes{end}"
                "Is it b? Please answer yes or no.\tNo"
            )
            write_text(root / f"{subset}/{number:06d}.txt", text)
    picture(root / "artwork/images/1.jpg")
    write_text(
        root / "artwork/questions_answers_YN/1.txt",
        f"Old? Please answer yes or no.\tNo{end}New?\tYes{end}",
    )
    (root / "eval_tool").mkdir()
    return root


def cell(seed: int) -> dict[str, Any]:
    """An image cell as `datasets` embeds it; the picture's first pixel is (seed, seed, seed)."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (seed, seed, seed)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{seed}.png"}


IMAGE_CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def parquet(
    path: Path, rows: list[dict[str, Any]], images: Sequence[str], row_group_size: int = 2
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = pa.Table.from_pylist(
        [{k: v for k, v in row.items() if k not in images} for row in rows]
    )
    for name in images:
        plain = plain.append_column(
            name, pa.array([row.get(name) for row in rows], type=IMAGE_CELL)
        )
    pq.write_table(plain, path, row_group_size=row_group_size)
    return path


def blink_rows(sub_task: str, split: str, n: int = 5) -> list[dict[str, Any]]:
    """Questions on one or three images; answers of test are hidden."""
    rows = []
    for i in range(n):
        cells = [cell(10 * i + k) for k in range(1 if sub_task == "Counting" else 3)]
        rows.append(
            {
                "idx": f"{split}_{sub_task}_{i + 1}",
                "question": "Which one?",
                "sub_task": sub_task,
                "choices": ["second", "third"],
                "answer": "(B)" if split == "val" else "hidden",
                "prompt": "Which one? Select from:\n(A) second\n(B) third",
                **{f"image_{k}": c for k, c in enumerate(cells, 1)},
            }
        )
    return rows


def blink(root: Path) -> Path:
    for sub_task in ("Art_Style", "Counting"):
        for split in ("val", "test"):
            path = root / f"{sub_task}/{split}-00000-of-00001.parquet"
            parquet(path, blink_rows(sub_task, split), [f"image_{k}" for k in (1, 2, 3, 4)])
    return root


def cvbench(root: Path) -> Path:
    sources = {"2D": (("Count", "ADE20K"), ("Relation", "COCO")), "3D": (("Depth", "Omni3D"),)}
    for kind, tasks in sources.items():
        rows = [
            {
                "idx": i,
                "type": kind,
                "task": task,
                "question": "How many?",
                "choices": ["1", "2"],
                "answer": "(A)",
                "prompt": "How many? Select from the following choices.\n(A) 1\n(B) 2",
                "filename": f"{i}.png",
                "source": source,
                "image": cell(i),
            }
            for i, (task, source) in enumerate(tasks)
        ]
        parquet(root / f"test_{kind.lower()}.parquet", rows, ["image"])
    return root

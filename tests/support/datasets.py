"""Small real data sets in the official layouts, written by hand here and independent of the scenes
writer.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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


def golden(name: str, target: Path) -> Path:
    """Unpack one of the golden trees."""
    with ZipFile(Path(__file__).parents[1] / "golden" / name) as archive:
        archive.extractall(target)
    return target


def msrc7(root: Path) -> Path:
    for category in ("bird", "car"):
        for number in range(3):
            picture(root / f"image/{category}/{number}.jpg")
            mask = np.zeros((24, 32), np.uint8)
            mask[4:10, number : number + 8] = 255
            label_png(root / f"groundtruth/{category}/{number}.png", mask, palette=False)
    return root


def colour_bmp(path: Path, colours: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours.astype(np.uint8)).save(path)
    return path


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


OWN_CLASSES = {"names": {"1": "cat", "2": "dog"}, "void": 255, "background": True}


def json_lines(path: Path, records: Sequence[Any]) -> Path:
    return write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def own(root: Path, per_class: int = 7) -> Path:
    """All that `own:` reads: masks of two classes, one picture of both; pairs, two videos,
    questions, captions.
    """
    for number in range(2 * per_class):
        picture(root / f"images/p{number:02d}.png", seed=number)
        labels = np.zeros((24, 32), np.uint8)
        labels[4:16, 5:20] = 1 + number % 2
        labels[3, 4:21] = 255
        if number == 0:
            labels[18:22, 2:9] = 2
        label_png(root / f"masks/p{number:02d}.png", labels, palette=number % 3 == 0)
    write_json(root / "classes.json", OWN_CLASSES)
    own_pairs(root)
    own_videos(root)
    own_questions(root)
    mask = np.zeros((24, 32), np.uint8)
    mask[2:9, 3:12] = 255
    label_png(root / "objects/left.png", mask, palette=False)
    lines = [
        {"image": "p00", "caption": "a cat on a mat", "class": "cat"},
        {"image": "p01.png", "caption": "a dog", "class": "dog", "incorrect": "a boat"},
        {"image": "p02", "caption": "the left one", "mask": "objects/left.png"},
        {"image": "images/p03.png", "caption": "nothing in particular"},
    ]
    json_lines(root / "captions.jsonl", lines)
    return root


def own_pairs(root: Path) -> Path:
    points = {"nose": [4, 5], "tail": [30, 20], "left ear": [10, 3], "paw": [20, 22]}
    moved = {name: [x - 1, y + 1] for name, (x, y) in points.items()} | {"only here": [1, 1]}
    lines = [
        {"images": ["p00", "p02"], "keypoints": [points, moved]},
        {
            "id": "second",
            "category": "dog",
            "images": ["p01", "p03"],
            "keypoints": [points, {"nose": [6, 7]}],
            "boxes": [[0, 0, 20, 20], [2, 2, 22, 12]],
            "sizes": [[32, 24], [32, 24]],
        },
    ]
    return json_lines(root / "pairs.jsonl", lines)


def own_videos(root: Path) -> Path:
    for name in ("one", "two"):
        for frame in range(4):
            picture(root / f"videos/{name}/{frame:05d}.jpg", seed=frame)
            labels = np.zeros((24, 32), np.uint8)
            labels[2 + frame : 8 + frame, 4:12] = 1
            label_png(root / f"videos/{name}/masks/{frame:05d}.png", labels)
    return root


def own_questions(root: Path) -> Path:
    lines: list[dict[str, Any]] = [
        {
            "image": f"p{n:02d}",
            "question": "Is it a cat?",
            "answer": "yes" if n % 2 == 0 else "no",
            "group": "kind",
        }
        for n in range(6)
    ]
    lines += [
        {
            "image": f"p{n:02d}",
            "question": "Which?",
            "answer": "dog" if n % 2 else "cat",
            "choices": ["cat", "dog"],
        }
        for n in range(8)
    ]
    lines += [
        {
            "id": f"like-{n}",
            "group": "likeness",
            "images": ["p00", f"p{n:02d}", f"p{n + 1:02d}"],
            "question": "Which of the others shows the same animal?",
            "answer": "(A)" if n % 2 == 0 else "B",
            "choices": ["the second image", "the third image"],
        }
        for n in range(2, 6)
    ]
    lines += [{"image": "p04", "question": "What is it?", "answer": "A cat."}]
    return json_lines(root / "questions.jsonl", lines)

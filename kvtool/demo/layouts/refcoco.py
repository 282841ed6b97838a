"""The layout of RefCOCO: refs, instances, images, and the images' COCO captions.

    refcoco/instances.json
    refcoco/refs(unc).p
    images/mscoco/images/train2014/*.jpg
    images/mscoco/annotations/captions_train2014.json

A ref is one thing with up to three sentences that fit it alone. The images of testA show animals
only, those of testB none, as people are parted from objects in RefCOCO. A ref's file name carries
its number, the image's does not.
"""

from __future__ import annotations

import json
import pickle
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.demo.draw import sample_rendered
from kvtool.demo.language import expressions
from kvtool.demo.layouts import coco
from kvtool.demo.layouts.files import Size, save_jpeg, save_json, stream
from kvtool.demo.world import Scene, categories

N_SENTENCES = 3
"""A ref has at most this many sentences."""
PLAN: dict[Size, dict[str, int]] = {
    "small": {"train": 10, "val": 24, "testA": 10, "testB": 10},
    "medium": {"train": 40, "val": 100, "testA": 40, "testB": 40},
    "large": {"train": 800, "val": 1000, "testA": 500, "testB": 500},
}
"""The number of images of each split."""


@dataclass
class Tables:
    """The entries of the annotation files, in the order of the images."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    captions: list[dict[str, Any]] = field(default_factory=list)
    refs: list[dict[str, Any]] = field(default_factory=list)
    n_sentences: int = 0

    def add(self, split: str, picture: coco.CocoPicture, rng: np.random.Generator) -> None:
        """Add the picture's things, its captions, and a ref for each thing that has a sentence."""
        self.images.append(coco.image_entry(picture.image_id, picture.file_name, picture.scene))
        self.captions += coco.caption_entries(picture.image_id, picture.scene, rng)
        sentences = _sentences(picture.scene, rng)
        for thing in range(len(picture.scene.things)):
            annotation_id = 1000 + 3 * len(self.annotations)
            entry = coco.annotation(annotation_id, picture.image_id, picture, thing)
            self.annotations.append(entry)
            texts = sentences.get(thing)
            if texts:
                ref = _ref(len(self.refs), split, picture, entry, texts, self.n_sentences)
                self.refs.append(ref)
                self.n_sentences += len(texts)


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder, and return the number of images."""
    tables = Tables()
    coco_folder = folder / "images" / "mscoco"
    for split, count in PLAN[size].items():
        for index in range(count):
            picture = draw_picture(seed, split, index, image_id=581_000 + 11 * len(tables.images))
            path = coco_folder / "images" / "train2014" / picture.file_name
            save_jpeg(path, picture.rendered.image)
            tables.add(split, picture, stream(seed, "refcoco sentences", split, index))
    head = {**coco.header(), "images": tables.images}
    instances = {**head, "annotations": tables.annotations, "categories": coco.category_entries()}
    save_json(folder / "refcoco" / "instances.json", instances)
    (folder / "refcoco" / "refs(unc).p").write_bytes(pickled(tables.refs))
    save_json(
        coco_folder / "annotations" / "captions_train2014.json",
        {**head, "annotations": tables.captions},
    )
    return len(tables.images)


def pickled(content: Any) -> bytes:
    """Pickle the content with protocol 2, as Python 2 wrote it.

    It goes through JSON, so that no two values share an object and the bytes are always the same.
    """
    return pickle.dumps(json.loads(json.dumps(content)), protocol=2)


def draw_picture(seed: int, split: str, index: int, image_id: int) -> coco.CocoPicture:
    """Draw two to four things, often several of one category.

    At least one of them has a sentence that fits it alone.
    """
    rng = stream(seed, "refcoco", split, index)
    animals = coco.SUPERCATEGORIES["animal"]
    pool = categories()
    # As in RefCOCO: testA is of one kind of things, testB of all others.
    if split == "testA":
        pool = animals
    elif split == "testB":
        pool = tuple(name for name in categories() if name not in animals)
    file_name = f"COCO_train2014_{image_id:012d}.jpg"
    while True:
        names = [str(name) for name in rng.choice(pool, size=rng.integers(2, 5))]
        # Twins make a category alone too little to name a thing.
        if rng.random() < 0.5:
            names[-1] = names[0]
        order = [names[int(i)] for i in rng.permutation(len(names))]
        scene, rendered = sample_rendered(rng, categories=order)
        if expressions(scene):
            return coco.CocoPicture(image_id, file_name, scene, rendered)


def _sentences(scene: Scene, rng: np.random.Generator) -> dict[int, list[str]]:
    """Return thing index -> up to three of the expressions that fit it alone."""
    texts: dict[int, list[str]] = defaultdict(list)
    for expression in expressions(scene):
        texts[expression.thing].append(expression.text)
    sentences = {}
    for thing in sorted(texts):
        order = rng.permutation(len(texts[thing]))[:N_SENTENCES]
        sentences[thing] = [texts[thing][int(i)] for i in order]
    return sentences


def _ref(
    ref_id: int,
    split: str,
    picture: coco.CocoPicture,
    entry: dict[str, Any],
    texts: list[str],
    first_sent_id: int,
) -> dict[str, Any]:
    sentences = [
        {"raw": _as_typed(text, sent_id), "sent": text, "sent_id": sent_id, "tokens": text.split()}
        for sent_id, text in enumerate(texts, first_sent_id)
    ]
    return {
        "ref_id": ref_id,
        "ann_id": entry["id"],
        "category_id": entry["category_id"],
        "image_id": picture.image_id,
        "file_name": f"{picture.file_name.removesuffix('.jpg')}_{ref_id}.jpg",
        "split": split,
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "sentences": sentences,
    }


def _as_typed(text: str, sent_id: int) -> str:
    """Return the raw sentence as people type it: some with a capital, some with a full stop."""
    return (text, text.capitalize(), f"{text}.", f"{text.capitalize()} .")[sent_id % 4]

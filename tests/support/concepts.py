"""A small COCO whose pictures show cats and dogs in known halves, and a model in whose stream they
can be planted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.engine.extraction import extract
from kvtool.store import Run, open_store, part_name
from tests.support import tiny
from tests.support.datasets import write_json
from tests.support.datasets.objects import coco_file
from tests.support.runs import create_run
from tests.support.tiny_words import word_id

Array = np.ndarray[Any, Any]
SIDE_PX = 64
CONCEPTS = ("cat", "dog")
HALVES = {"left": (0, 0, 32, 64), "right": (32, 0, 64, 64), "top": (0, 0, 64, 32)}
CAPTIONS = (
    "the cat is on the left",
    "what colour is the dog",
    "a dog is in the image",
    "there is no cat in the image",
    "the red dog is there",
    "a blue cat",
)


def cats_and_dogs(root: Path, count: int) -> Path:
    """Every third picture shows a cat on its left half, a dog on its right one, or both."""
    names = [f"COCO_val2014_{number:012d}" for number in range(1, count + 1)]
    annotations: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for number, name in enumerate(names, 1):
        path = root / f"val2014/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny.noise(SIDE_PX, SIDE_PX, number).save(path)
        for category, half in shown(number):
            annotations.append(_instance(len(annotations) + 1, number, category, half))
        caption = CAPTIONS[number % len(CAPTIONS)]
        captions.append({"id": number, "image_id": number, "caption": caption})
    categories = [{"id": index, "name": name} for index, name in enumerate(CONCEPTS, 1)]
    shell = coco_file(names)
    for image in shell["images"]:
        image["width"] = image["height"] = SIDE_PX
    write_json(
        root / "annotations/instances_val2014.json",
        {**shell, "categories": categories, "annotations": annotations},
    )
    write_json(root / "annotations/captions_val2014.json", {**shell, "annotations": captions})
    return root


def shown(number: int) -> list[tuple[str, str]]:
    """What the picture of a number shows: a concept, and the half where it is."""
    shows = [("cat", "left")] if number % 3 != 1 else []
    return shows + ([("dog", "right")] if number % 3 != 2 else [])


def _instance(id: int, image_id: int, concept: str, half: str) -> dict[str, Any]:
    left, top, right, bottom = HALVES[half]
    return {
        "id": id,
        "image_id": image_id,
        "category_id": CONCEPTS.index(concept) + 1,
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "bbox": [left, top, right - left, bottom - top],
        "area": float((right - left) * (bottom - top)),
        "iscrowd": 0,
    }


def reading_model(folder: Path) -> Path:
    """A tiny model whose head reads a channel for each concept, and whose sentences keep the
    channel of their words: layers pass on what enters them.
    """
    from transformers import LlavaOnevisionForConditionalGeneration

    tiny.llava_onevision(folder)
    loader: Any = LlavaOnevisionForConditionalGeneration
    network = loader.from_pretrained(folder, dtype=torch.float32)
    decoder = network.model.language_model
    with torch.no_grad():
        for layer in decoder.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for weight in (decoder.embed_tokens.weight, network.lm_head.weight):
            for channel, concept in enumerate(CONCEPTS):
                weight[:, channel] = 0
                weight[word_id(concept)] = 0
                weight[word_id(concept), channel] = 4
    network.save_pretrained(folder)
    return folder


def planted_run(store: Path, model: Path, data: Path, planted_layer: int) -> Run:
    """A run whose stream is noise, and after one layer has the concepts in their channels."""
    report = extract(
        store, model=str(model), dataset=f"coco:{data}", kinds=["hidden"], dtype="float32"
    )
    source = open_store(store).run(report.run)
    rng = np.random.default_rng(0)
    arrays = []
    for sample in source.samples:
        span = sample.base()
        stream = rng.standard_normal((3, 1, sample.n_tokens, 32)).astype(np.float32)
        for concept, half in shown(int(sample.id.split("_")[-1])):
            for cell, token in enumerate(span.token_indices()):
                x_px, y_px = span.centre_px(*divmod(cell, span.grid[1]))
                left, top, right, bottom = HALVES[half]
                if left <= x_px < right and top <= y_px < bottom:
                    stream[planted_layer, 0, token, CONCEPTS.index(concept)] += 12
        arrays.append(stream)
    run = create_run(open_store(store), replace(source.config, name="planted"))
    run.enroll(source.ids, source.place)
    run.commit_part(part_name(0, len(source)), source.samples, {"hidden": arrays})
    run.refresh()
    return run

"""Refs point to annotations of their image, and their sentences fit that thing alone."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from kvtool.demo.language import expressions
from kvtool.demo.layouts.coco import SUPERCATEGORIES
from kvtool.demo.layouts.refcoco import PLAN, draw_picture, pickled

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class PlainUnpickler(pickle.Unpickler):
    """Builds what the pickle format itself has; any class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


@pytest.fixture(scope="module")
def refs(world: Path) -> list[dict[str, Any]]:
    content = (world / "refcoco" / "refcoco" / "refs(unc).p").read_bytes()
    assert content[:2] == b"\x80\x02"
    refs: list[dict[str, Any]] = PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    return refs


@pytest.fixture(scope="module")
def coco(world: Path) -> COCO:
    return COCO(str(world / "refcoco" / "refcoco" / "instances.json"))


@pytest.mark.slow
def test_refs_belong_to_annotations_and_images(
    world: Path, refs: list[dict[str, Any]], coco: COCO
) -> None:
    folder = world / "refcoco" / "images" / "mscoco" / "images" / "train2014"
    assert {ref["split"] for ref in refs} == {"train", "val", "testA", "testB"}
    assert [ref["ref_id"] for ref in refs] == list(range(len(refs)))
    sent_ids = []
    for ref in refs:
        annotation = coco.anns[ref["ann_id"]]
        assert annotation["image_id"] == ref["image_id"]
        assert annotation["category_id"] == ref["category_id"]
        image = coco.imgs[ref["image_id"]]
        assert ref["file_name"].rpartition("_")[0] == image["file_name"].removesuffix(".jpg")
        with Image.open(folder / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        assert [sentence["sent_id"] for sentence in ref["sentences"]] == ref["sent_ids"]
        assert 1 <= len(ref["sentences"]) <= 3
        for sentence in ref["sentences"]:
            assert " ".join(sentence["tokens"]) == sentence["sent"]
            assert sentence["raw"].lower().strip(" .") == sentence["sent"]
        sent_ids += ref["sent_ids"]
    assert sent_ids == list(range(len(sent_ids)))


@pytest.mark.slow
def test_sentences_fit_the_drawn_thing_alone(refs: list[dict[str, Any]], coco: COCO) -> None:
    image_ids, checked = sorted(coco.imgs), 0
    positions = [(split, index) for split, count in PLAN["small"].items() for index in range(count)]
    assert len(positions) == len(image_ids)
    for image_id, (split, index) in zip(image_ids, positions, strict=True):
        picture = draw_picture(0, split, index, image_id)
        fits = {expression.text: expression.thing for expression in expressions(picture.scene)}
        for ref in (ref for ref in refs if ref["image_id"] == image_id):
            assert ref["split"] == split
            thing = fits[ref["sentences"][0]["sent"]]
            assert {fits[sentence["sent"]] for sentence in ref["sentences"]} == {thing}
            mask = coco.annToMask(coco.anns[ref["ann_id"]])
            assert np.array_equal(mask, picture.rendered.thing_map == thing + 1)
            checked += 1
    assert checked == len(refs) > 100


@pytest.mark.slow
def test_animals_in_test_a_and_none_in_test_b(refs: list[dict[str, Any]], coco: COCO) -> None:
    names = {split: set() for split in ("testA", "testB")}  # type: dict[str, set[str]]
    for ref in refs:
        if ref["split"] in names:
            names[ref["split"]].add(coco.cats[ref["category_id"]]["name"])
    assert names["testA"] <= set(SUPERCATEGORIES["animal"])
    assert not names["testB"] & set(SUPERCATEGORIES["animal"])


@pytest.mark.slow
def test_captions_cover_every_image(world: Path, coco: COCO) -> None:
    path = world / "refcoco" / "images" / "mscoco" / "annotations" / "captions_train2014.json"
    content = json.loads(path.read_text())
    assert {entry["image_id"] for entry in content["annotations"]} == set(coco.imgs)


def test_the_pickle_does_not_depend_on_shared_objects() -> None:
    text = "one thing"
    shared, apart = (
        [{"a": text, "b": text}],
        [{"a": "one thing"[:], "b": "".join(["one ", "thing"])}],
    )
    assert pickled(shared) == pickled(apart)

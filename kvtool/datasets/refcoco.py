"""RefCOCO: referring expression segmentation on COCO 2014 images, UNC splits (protocol 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.coco import read_captions
from kvtool.datasets.files import fields, read_json, require
from kvtool.datasets.masks import LabelMap, segmentation_mask
from kvtool.datasets.restricted_pickle import load_plain
from kvtool.errors import DatasetError

_JPEGS = "images/mscoco/images/train2014"
_CAPTIONS = ("images/mscoco/annotations", "annotations", "refcoco")
_REF_FIELDS = ("ref_id", "ann_id", "image_id", "category_id", "split", "sentences")


@dataclass(frozen=True)
class Expression:
    """One sentence about one object. `text` is the cleaned sentence (`sent`), `raw` the one as typed."""

    sent_id: int
    ref_id: int
    ann_id: int
    image_id: str
    category: str
    text: str
    raw: str


class RefCoco(DatasetBase):
    """Images of one split, in the order of the refs. Ids are COCO's file names without suffix."""

    about = About(
        name="refcoco",
        title="RefCOCO (UNC), referring expression segmentation",
        tasks=("referring-expression",),
        splits=("val", "testA", "testB", "train"),
        layout=(
            "refcoco/instances.json  COCO annotations of the objects",
            "refcoco/refs(unc).p  the expressions; read without running what a pickle may carry",
            "images/mscoco/images/train2014/*.jpg  COCO_train2014_000000098304.jpg",
            'images/mscoco/annotations/captions_train2014.json  optional: captions for the prefix "correct"',
        ),
        source="RefCOCO (Yu et al. 2016) as the refer toolkit packs it; images and captions of COCO 2014 train",
        licence="expressions Apache-2.0 (refer toolkit); COCO annotations CC BY 4.0; images under Flickr's terms",
        conditions=("none", "correct", "random"),
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self._refs_file = require(self.folder, "refcoco/refs(unc).p", "the expressions", self.name)
        self._instances_file = require(self.folder, "refcoco/instances.json", "the objects", self.name)

    def images(self) -> Sequence[ImageRef]:
        folder = require(self.folder, f"{_JPEGS}/", "COCO's images", self.name)
        names = dict.fromkeys(self._images[e.image_id] for e in self.expressions())
        return [ImageRef(Path(name).stem, folder / name) for name in names]

    def texts(self) -> Sequence[str]:
        """The split's sentences, each once, in order."""
        return tuple(dict.fromkeys(e.text for e in self.expressions()))

    def correct_prefix(self, image_id: str) -> str:
        """The image's first COCO caption."""
        captions = self._captions.get(image_id)
        if not captions:
            raise DatasetError(f"{self.name}: no COCO caption of image {image_id}; leave it out of every condition")
        return captions[0]

    def truth_files(self) -> Sequence[Path]:
        """The expressions, the objects, and where captions are or may be."""
        return [self._refs_file, self._instances_file, *self._caption_files]

    @property
    def _caption_files(self) -> list[Path]:
        """Where captions are looked for, the first first."""
        return [self.folder / place / "captions_train2014.json" for place in _CAPTIONS]

    def expressions(self) -> list[Expression]:
        """One sample per sentence of the split, in file order; refs without annotation are named in `skipped`."""
        return self._expressions

    def mask(self, expression: Expression) -> LabelMap:
        """(height, width) uint8 0/1: the union of the object's polygons."""
        annotation, image = self._annotations[expression.ann_id]
        where = f"{self._instances_file}: annotation {expression.ann_id}"
        segmentation, height, width = *fields(annotation, ("segmentation",), where), image["height"], image["width"]
        return segmentation_mask(segmentation, height, width, where)

    @cached_property
    def _instances(self) -> tuple[dict[int, Any], dict[int, Any], dict[int, str]]:
        """Images, annotations and category names by id."""
        record = read_json(self._instances_file)
        parts = fields(record, ("images", "annotations", "categories"), str(self._instances_file))
        try:
            images, annotations, categories = ({entry["id"]: entry for entry in part} for part in parts)
            return images, annotations, {i: category["name"] for i, category in categories.items()}
        except (KeyError, TypeError) as error:
            raise DatasetError(f"{self._instances_file}: expected entries as COCO has them, found {error!r}") from None

    @cached_property
    def _annotations(self) -> dict[int, tuple[Any, Any]]:
        """Annotation id -> the annotation and its image, where both are there."""
        images, annotations, _ = self._instances
        return {i: (a, images[a["image_id"]]) for i, a in annotations.items() if a.get("image_id") in images}

    @cached_property
    def _images(self) -> dict[str, str]:
        """Image id -> file name."""
        return {Path(image["file_name"]).stem: image["file_name"] for image in self._instances[0].values()}

    @cached_property
    def _expressions(self) -> list[Expression]:
        refs = load_plain(self._refs_file)
        if not isinstance(refs, list):
            raise DatasetError(f"{self._refs_file}: expected a list of refs, found {type(refs).__name__}")
        expressions: list[Expression] = []
        for number, ref in enumerate(refs):
            where = f"{self._refs_file}: ref {number}"
            if fields(ref, _REF_FIELDS, where)[4] == self.split:
                expressions += self._of_ref(ref, where)
        if not expressions:
            raise DatasetError(f"{self._refs_file}: expected refs of split {self.split!r}, found none of {len(refs)}")
        return expressions

    def _of_ref(self, ref: dict[str, Any], where: str) -> list[Expression]:
        annotation, image = self._annotations.get(ref["ann_id"], (None, None))
        if annotation is None or image is None:
            self.skipped.append(f"{where}: no annotation {ref['ann_id']} with an image in instances.json")
            return []
        name = self._instances[2].get(ref["category_id"], "")
        found = []
        for sentence in ref["sentences"]:
            sent_id, text = fields(sentence, ("sent_id", "sent"), where)
            raw = sentence.get("raw", text)
            image_id = Path(image["file_name"]).stem
            found.append(Expression(sent_id, ref["ref_id"], ref["ann_id"], image_id, name, text, raw))
        return found

    @cached_property
    def _captions(self) -> dict[str, tuple[str, ...]]:
        for path in self._caption_files:
            if path.is_file():
                return read_captions(path)
        raise DatasetError(
            f"{self.name}: {self.folder}: expected COCO's captions at {_CAPTIONS[0]}/captions_train2014.json, "
            "found none; put the file there, or use another prefix"
        )

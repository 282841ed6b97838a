"""RefCOCO: referring expression segmentation on COCO 2014 images, UNC splits (protocol 4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool.datasets import coco_records, values
from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.coco_records import by_id, file_name, image_wh_px, read_captions
from kvtool.datasets.files import require
from kvtool.datasets.json_files import fields, read_json
from kvtool.datasets.listing import Listing
from kvtool.datasets.masks import LabelMap, segmentation_mask
from kvtool.datasets.names import brief
from kvtool.datasets.restricted_pickle import load_plain
from kvtool.errors import DatasetError

_JPEGS = "images/mscoco/images/train2014"
_CAPTIONS = ("images/mscoco/annotations", "annotations", "refcoco")
_REF_FIELDS = ("ref_id", "ann_id", "image_id", "category_id", "split", "sentences")


@dataclass(frozen=True)
class Expression:
    """One sentence about one object.

    `text` is the cleaned sentence (`sent`), `raw` the one as typed.
    """

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
            "images/mscoco/annotations/captions_train2014.json  optional: captions for the prefix "
            '"correct"',
        ),
        source="RefCOCO (Yu et al. 2016) as the refer toolkit packs it; images and captions of "
        "COCO 2014 train",
        licence="expressions Apache-2.0 (refer toolkit); COCO annotations CC BY 4.0; images under "
        "Flickr's terms",
        conditions=("none", "correct", "random"),
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self._refs_file = require(self.folder, "refcoco/refs(unc).p", "the expressions", self.name)
        self._instances_file = require(
            self.folder, "refcoco/instances.json", "the objects", self.name
        )

    def images(self) -> Sequence[ImageRef]:
        """Return the images that the expressions of the split speak of, each once."""
        names = Listing(require(self.folder, f"{_JPEGS}/", "COCO's images", self.name))
        listed = dict.fromkeys(self._file_names[e.image_id] for e in self.expressions())
        return [ImageRef(Path(name).stem, names.place(name)) for name in listed]

    def texts(self) -> Sequence[str]:
        """Return the split's sentences, each once, in order."""
        return tuple(dict.fromkeys(e.text for e in self.expressions()))

    def expression_texts(self) -> Sequence[str]:
        """Return the text of each expression once, in order."""
        return self.texts()

    def correct_prefix(self, image_id: str) -> str:
        """Return the image's first COCO caption."""
        captions = self._captions.get(image_id)
        if not captions:
            raise DatasetError(
                f"{self.name}: no COCO caption of image {image_id}; leave it out of every condition"
            )
        return captions[0]

    def truth_files(self) -> Sequence[Path]:
        """Return the expressions, the objects, and where captions are or may be."""
        return [self._refs_file, self._instances_file, *self._caption_files]

    @property
    def _caption_files(self) -> list[Path]:
        """Where captions are looked for, the first first."""
        return [self.folder / folder_name / "captions_train2014.json" for folder_name in _CAPTIONS]

    def expressions(self) -> list[Expression]:
        """One sample per sentence of the split, in file order; what cannot be used is named in
        `skipped`.
        """
        return self._expressions

    def captions(self) -> Mapping[str, Sequence[str]]:
        """Return image id -> the expressions of the split about its objects, each once."""
        texts: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for expression in self.expressions():
            texts[expression.image_id][expression.text] = None
        return {image_id: tuple(sentences) for image_id, sentences in texts.items()}

    def concepts(self) -> Sequence[str]:
        """Return the names of COCO's categories, by id."""
        return tuple(dict.fromkeys(self._categories.values()))

    def concept_masks(self, image_id: str) -> Mapping[str, LabelMap]:
        """Return the mask of each category, see kvtool.datasets.coco.Coco.concept_masks: the
        instances hold every object of an image, also those that no expression is about. Raises
        DatasetError.
        """
        if image_id not in self._sizes:
            raise DatasetError(
                f"{self._instances_file}: expected image {image_id}, found no usable entry"
            )
        return coco_records.category_masks(
            self._instances.get(image_id, []),
            self.concepts(),
            self._sizes[image_id],
            str(self._instances_file),
            self.skipped,
        )

    def place_of(self, expression: Expression) -> str:
        """Return where an expression's object stands, for messages."""
        return f"{self._instances_file}: annotation {expression.ann_id}"

    def image_wh_px(self, expression: Expression) -> tuple[int, int]:
        """Return (width, height) that instances.json gives the expression's image. Raises
        DatasetError.
        """
        with values.at(str(self._instances_file)):
            return image_wh_px(self._objects[expression.ann_id][1])

    def object_mask(self, expression: Expression) -> LabelMap:
        """Return (height, width) uint8 0/1: the union of the object's polygons. Raises
        DatasetError.
        """
        width, height = self.image_wh_px(expression)
        location, annotation = self.place_of(expression), self._objects[expression.ann_id][0]
        (segmentation,) = fields(annotation, ("segmentation",), location)
        return segmentation_mask(segmentation, height, width, location)

    @cached_property
    def _parts(self) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
        """Images, annotations and categories by id."""
        location = str(self._instances_file)
        images, annotations, categories = fields(
            read_json(self._instances_file), ("images", "annotations", "categories"), location
        )
        return (
            by_id(images, f"{location}: images", self.skipped),
            by_id(annotations, f"{location}: annotations", self.skipped),
            by_id(categories, f"{location}: categories", self.skipped),
        )

    @cached_property
    def _categories(self) -> dict[int, str]:
        """Category id -> name."""
        location = str(self._instances_file)
        return coco_records.read_categories(self._parts[2], location, self.skipped)

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Image id -> (width, height) in pixels."""
        return coco_records.image_sizes(self._parts[0])

    @cached_property
    def _instances(self) -> dict[str, list[coco_records.Instance]]:
        """Image id -> its objects."""
        images, annotations, _ = self._parts
        location = str(self._instances_file)
        return coco_records.read_instances(
            annotations, images, self._categories, location, self.skipped
        )

    @cached_property
    def _objects(self) -> dict[int, tuple[Any, Any]]:
        """Annotation id -> the annotation and its image, where both are there."""
        images, annotations, _ = self._parts
        pairs = ((number, a, _get(images, a.get("image_id"))) for number, a in annotations.items())
        return {
            number: (annotation, image) for number, annotation, image in pairs if image is not None
        }

    @cached_property
    def _file_names(self) -> dict[str, str]:
        """Image id -> file name, of the images that expressions are about."""
        names = (
            file_name(self._objects[expression.ann_id][1]) for expression in self.expressions()
        )
        return {Path(name).stem: name for name in names}

    @cached_property
    def _expressions(self) -> list[Expression]:
        refs = load_plain(self._refs_file)
        if not isinstance(refs, list):
            raise DatasetError(
                f"{self._refs_file}: expected a list of refs, found {type(refs).__name__}"
            )
        sentences: dict[int, Expression] = {}
        repeated = 0
        for number, ref in enumerate(refs):
            for expression in self._of_ref(ref, f"{self._refs_file}: ref {number}"):
                # A sentence that stands there twice is one; two sentences of one id are a fault.
                first = sentences.setdefault(expression.sent_id, expression)
                repeated += first is not expression and first == expression
                if first != expression:
                    self.skipped.append(
                        f"{self._refs_file}: ref {number}: sentence {expression.sent_id}: expected "
                        "an id of its own, "
                        f"found that of ref {first.ref_id}"
                    )
        if repeated:
            self.note(f"{self._refs_file}: {repeated} sentences are listed twice and count once")
        if not sentences:
            reason = f"; first problem: {self.skipped[0]}" if self.skipped else ""
            raise DatasetError(
                f"{self._refs_file}: expected refs of split {self.split!r}, found none of "
                f"{len(refs)} to use{reason}"
            )
        return list(sentences.values())

    def _of_ref(self, ref: Any, location: str) -> list[Expression]:
        """Return the sentences of a ref, where it is of this split; what cannot be used of it gets
        a line in `skipped`.
        """
        try:
            _, ann_id, _, category_id, split, sentences = fields(ref, _REF_FIELDS, location)
            if split != self.split:
                # Refs of other splits are no fault.
                return []
            if _get(self._objects, ann_id) is None:
                raise DatasetError(
                    f"{location}: no annotation {brief(ann_id)} with an image in instances.json"
                )
            if not isinstance(sentences, list) or not sentences:
                raise DatasetError(f"{location}: expected sentences, found {brief(sentences)}")
            with values.at(location):
                ref_id = values.whole(ref["ref_id"], "ref_id")
            with values.at(str(self._instances_file)):
                image_id = Path(file_name(self._objects[ann_id][1])).stem
        except DatasetError as error:
            self.skipped.append(str(error))
            return []
        category = _get(self._parts[2], category_id) or {}
        referent = {
            "ref_id": ref_id,
            "ann_id": ann_id,
            "image_id": image_id,
            "category": str(category.get("name", "")),
        }
        expressions = []
        for position, sentence in enumerate(sentences):
            try:
                expressions.append(
                    _expression(sentence, f"{location}: sentence {position}", referent)
                )
            except DatasetError as error:
                self.skipped.append(str(error))
        return expressions

    @cached_property
    def _captions(self) -> dict[str, tuple[str, ...]]:
        for path in self._caption_files:
            if path.is_file():
                return read_captions(path, self.skipped)
        raise DatasetError(
            f"{self.name}: {self.folder}: expected COCO's captions at "
            f"{_CAPTIONS[0]}/captions_train2014.json, "
            "found none; put the file there, or use another prefix"
        )


def _get(records: dict[int, Any], number: Any) -> Any:
    """Return the record of an id; None for what is no id."""
    return records.get(number) if isinstance(number, int) else None


def _expression(sentence: Any, location: str, referent: dict[str, Any]) -> Expression:
    """Return a sentence of a ref. Raises DatasetError where it has no id, or says nothing."""
    sent_id, sent = fields(sentence, ("sent_id", "sent"), location)
    with values.at(location):
        text, number = values.text(sent, "sent"), values.whole(sent_id, "sent_id")
    return Expression(sent_id=number, text=text, raw=str(sentence.get("raw", text)), **referent)

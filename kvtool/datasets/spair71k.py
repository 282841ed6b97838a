"""SPair-71k: semantic keypoint pairs (Min et al. 2019), in the layout of its release.

An image may belong to two categories, so ids are `<category>/<name>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool.datasets import values
from kvtool.datasets.base import About, DatasetBase, ImageRef, Progress, another
from kvtool.datasets.files import read_lines, require
from kvtool.datasets.json_files import fields, read_json
from kvtool.datasets.listing import Listing
from kvtool.datasets.names import brief
from kvtool.errors import DatasetError

Point = tuple[float, float]
Box = tuple[float, float, float, float]

_LINE = re.compile(r"(?P<id>[^-:/]+)-(?P<src>[^-:/]+)-(?P<trg>[^-:/]+):(?P<category>[^-:/]+)")
_FIELDS = (
    "src_imname",
    "trg_imname",
    "src_imsize",
    "trg_imsize",
    "src_kps",
    "trg_kps",
    "src_bndbox",
    "trg_bndbox",
)
_DIFFICULTIES = ("mirror", "viewpoint_variation", "scale_variation", "truncation", "occlusion")
OUTSIDE = 0.1
"""How far outside its picture a keypoint may lie, as a share of the picture's longer side: PCK's
primary alpha.
"""

_READABLE = {"pottedplant": "potted plant", "tvmonitor": "tv monitor"}


@dataclass(frozen=True)
class Pair:
    """Corresponding keypoints of two images, in pixels of the originals; boxes are those of the two
    objects.

    A keypoint may lie outside its box, as some of the release do. The four variations are the
    release's difficulty codes (0 easy to 2 hard; truncation and occlusion 0-3). file: the
    annotation's, for messages.
    """

    id: str
    category: str
    src_id: str
    trg_id: str
    src_wh_px: tuple[int, int]
    trg_wh_px: tuple[int, int]
    src_kps_px: tuple[Point, ...]
    trg_kps_px: tuple[Point, ...]
    kps_ids: tuple[int, ...]
    src_box_xyxy_px: Box
    trg_box_xyxy_px: Box
    mirror: int
    viewpoint_variation: int
    scale_variation: int
    truncation: int
    occlusion: int
    file: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class _Listed:
    line: str
    src: str
    trg: str
    category: str


class SPair71k(DatasetBase):
    """Images in the order in which the pair list first names them, so that a limited run has whole
    pairs.
    """

    about = About(
        name="spair71k",
        title="SPair-71k, semantic correspondence",
        tasks=("semantic-correspondence",),
        splits=("test", "val", "trn"),
        layout=(
            "Layout/large/{trn,val,test}.txt  lines 000001-<source>-<target>:<category>",
            "PairAnnotation/{trn,val,test}/<line>.json  one file a pair",
            "JPEGImages/<category>/*.jpg  images",
        ),
        source="SPair-71k (Min, Lee, Ponce, Cho 2019); images of PASCAL VOC 2012 and PASCAL 3D+",
        licence="for research; images under the terms of PASCAL VOC (Flickr)",
        conditions=("none", "correct", "incorrect", "random"),
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self._list = require(
            self.folder, f"Layout/large/{self.split}.txt", "the list of pairs", self.name
        )
        self._annotations = require(
            self.folder, f"PairAnnotation/{self.split}/", "a folder of pair annotations", self.name
        )
        self._jpegs = require(
            self.folder, "JPEGImages/", "a folder of images by category", self.name
        )

    @cached_property
    def _listed(self) -> list[_Listed]:
        """Each line of the list once."""
        listed = []
        lines = read_lines(self._list)
        self.note_repeated(self._list, lines)
        for number, line in enumerate(lines, 1):
            match = _LINE.fullmatch(line)
            if match is None:
                raise DatasetError(
                    f"{self._list}: line {number}: expected 000001-<source>-<target>:<category>, "
                    f"found {line!r}; "
                    "download the file again"
                )
            listed.append(_Listed(line, match["src"], match["trg"], match["category"]))
        return list(dict.fromkeys(listed))

    @cached_property
    def _images(self) -> list[ImageRef]:
        # By first mention, both pictures of a pair together.
        names = dict.fromkeys((p.category, name) for p in self._listed for name in (p.src, p.trg))
        folders = {category: Listing(self._jpegs / category) for category, _ in names}
        return [ImageRef(f"{c}/{n}", folders[c].place(f"{n}.jpg")) for c, n in names]

    def images(self) -> Sequence[ImageRef]:
        """Return the images of the split's pairs, category by category."""
        return self._images

    def truth_files(self) -> Sequence[Path]:
        """Return the list of pairs and their annotations."""
        return [self._list, *(self._annotation_file(listed.line) for listed in self._listed)]

    def _annotation_file(self, line: str) -> Path:
        return self._annotation_names.place(f"{line}.json")

    @cached_property
    def _annotation_names(self) -> Listing:
        return Listing(self._annotations)

    @cached_property
    def _categories(self) -> tuple[str, ...]:
        return tuple(sorted({p.category for p in self._listed}))

    def categories(self) -> tuple[str, ...]:
        """Return the names of the categories that the pairs are of, sorted."""
        return self._categories

    def class_name(self, category: str) -> str:
        """Return the category as a reader writes it: "potted plant" for "pottedplant"."""
        return _READABLE.get(category, category.replace("_", " "))

    def texts(self) -> Sequence[str]:
        """Return class names in the order of categories()."""
        return tuple(self.class_name(c) for c in self.categories())

    def correct_prefix(self, image_id: str) -> str:
        """Return the class name of the image's object."""
        return self.class_name(self._category(image_id))

    def incorrect_prefix(self, image_id: str) -> str:
        """Return the class name of another category, the same each time."""
        return self.class_name(another(self.categories(), self._category(image_id), image_id))

    def _category(self, image_id: str) -> str:
        category = image_id.partition("/")[0]
        if category not in self.categories():
            raise self.unknown_image(image_id)
        return category

    def pairs(self, progress: Progress | None = None) -> list[Pair]:
        """Return every pair of the split, from one small JSON file each (12,234 for test: seconds).

        A pair without a usable annotation is left out and named in `skipped`. Raises DatasetError
        when none is left.
        """
        pairs: list[Pair] = []
        self.skipped.clear()
        for done, listed in enumerate(self._listed, 1):
            try:
                pairs.append(self._pair(listed))
            except DatasetError as error:
                self.skipped.append(str(error))
            if progress is not None:
                progress(done, len(self._listed))
        if not pairs:
            raise DatasetError(
                f"{self._annotations}: no usable pair annotation; first problem: {self.skipped[0]}"
            )
        return pairs

    def _pair(self, listed: _Listed) -> Pair:
        path = self._annotation_file(listed.line)
        # Where the file system keeps no colons, the annotation is there under another name.
        if path.name not in self._annotation_names.names:
            raise DatasetError(self._why_absent(path))
        record = read_json(path)
        src_name, trg_name, *measures = fields(record, _FIELDS, str(path))
        ids = [Path(str(n)).stem for n in (src_name, trg_name)]
        # List and annotation name the same pictures, or points would belong to others.
        if ids != [listed.src, listed.trg]:
            raise DatasetError(
                f"{path}: expected images {listed.src}, {listed.trg} as the list has, found "
                f"{', '.join(ids)}"
            )
        with values.at(str(path)):
            return replace(checked_pair(_read_pair(listed, measures, record)), file=str(path))

    def _why_absent(self, path: Path) -> str:
        """Most often the colon: file systems of Windows, and those shared with it, have none in
        their names.
        """
        similar = self._without_marks.get(_letters(path.name))
        if similar is None:
            return (
                f"{path}: expected a pair's annotation, found nothing there; check the data set is "
                "complete"
            )
        return (
            f"{path}: expected this name with its colon, found {similar}: the file system it was "
            "unpacked on keeps no "
            "colons; unpack SPair-71k again on one that does, or rename the files"
        )

    @cached_property
    def _without_marks(self) -> dict[str, str]:
        """Names of annotations by their letters and digits alone."""
        return {_letters(name): name for name in self._annotation_names.names}


def _read_pair(listed: _Listed, measures: Sequence[Any], record: dict[str, Any]) -> Pair:
    """Return a pair from its annotation. Raises DatasetError for what is not as SPair-71k has
    it.
    """
    src_size, trg_size, src_kps, trg_kps, src_box, trg_box = measures
    src_kps_px, trg_kps_px = values.points(src_kps, "src_kps"), values.points(trg_kps, "trg_kps")
    # Without ids points correspond by their order.
    ids = record.get("kps_ids", list(range(len(src_kps_px))))
    if not isinstance(ids, list):
        raise DatasetError(f"expected kps_ids to be a list, found {brief(ids)}")
    codes = {name: values.whole(record.get(name, 0), name) for name in _DIFFICULTIES}
    return Pair(
        id=listed.line,
        category=listed.category,
        src_id=f"{listed.category}/{listed.src}",
        trg_id=f"{listed.category}/{listed.trg}",
        src_wh_px=values.size(src_size, "src_imsize"),
        trg_wh_px=values.size(trg_size, "trg_imsize"),
        src_kps_px=src_kps_px,
        trg_kps_px=trg_kps_px,
        kps_ids=tuple(values.whole(number, "kps_ids") for number in ids),
        src_box_xyxy_px=values.box(src_box, "src_bndbox"),
        trg_box_xyxy_px=values.box(trg_box, "trg_bndbox"),
        mirror=codes["mirror"],
        viewpoint_variation=codes["viewpoint_variation"],
        scale_variation=codes["scale_variation"],
        truncation=codes["truncation"],
        occlusion=codes["occlusion"],
    )


def checked_pair(pair: Pair) -> Pair:
    """Return the pair. Raises DatasetError where its points cannot be told, or not be found."""
    counts = len(pair.src_kps_px), len(pair.trg_kps_px), len(pair.kps_ids)
    if len(set(counts)) > 1 or not pair.src_kps_px:
        counts_text = f"{counts[0]} source and {counts[1]} target points, {counts[2]} ids"
        raise DatasetError(
            f"expected as many source points as target points and ids, found {counts_text}"
        )
    for what, points_px, wh_px in (
        ("src_kps", pair.src_kps_px, pair.src_wh_px),
        ("trg_kps", pair.trg_kps_px, pair.trg_wh_px),
    ):
        # A point this far outside is none that a point of the picture could be right for.
        margin = OUTSIDE * max(wh_px)
        for x, y in points_px:
            if not (-margin <= x <= wh_px[0] + margin and -margin <= y <= wh_px[1] + margin):
                raise DatasetError(
                    f"expected {what} inside {wh_px[0]} x {wh_px[1]} pixels, found ({x:g}, {y:g})"
                )
    return pair


def _letters(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]+", "", name)

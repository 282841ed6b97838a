"""MSRC for co-segmentation: the MSRC7 folders by class, or the MSRCv2 release with color-coded
maps (protocol 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import by_stem, require, require_any
from kvtool.datasets.masks import VOID, IdMap, LabelMap, concept_masks, read_binary, read_rgb
from kvtool.errors import DatasetError

V2_COLORS = {
    "bird": (0, 64, 0),
    "car": (64, 0, 128),
    "cat": (0, 192, 128),
    "cow": (0, 0, 128),
    "dog": (128, 192, 128),
    "plane": (192, 0, 0),
    "sheep": (0, 128, 128),
}
"""RGB of the seven classes in MSRCv2's `_GT` maps."""

_V2_OTHERS = (
    (128, 0, 0), (0, 128, 0), (128, 128, 0), (128, 0, 128), (128, 128, 128), (64, 0, 0),
    (64, 128, 0), (192, 128, 0), (192, 0, 128), (64, 128, 128), (192, 128, 128), (128, 64, 0),
    (0, 192, 0), (128, 64, 128), (64, 64, 0), (192, 64, 0),
)  # fmt: skip
"""Those of its other 16 classes, such as grass."""

_V2_VOID = 0
_V2_SHARE = 0.01
"""A map with more pixels than this in a color of no class is not MSRCv2's: its channels are
swapped, or it is gray.
"""


class Msrc(DatasetBase):
    """Groups of images that share a class.

    Ids are `<class>/<name>` (MSRC7) or `<name>` (MSRCv2).
    """

    about = About(
        name="msrc",
        title="MSRC, co-segmentation of images that share a class",
        tasks=("co-segmentation",),
        splits=("all",),
        layout=(
            "image/<class>/*  MSRC7: images by class, any image format",
            "groundtruth/<class>/*  MSRC7: a mask of the same name, black is background",
            "Images/*.bmp  or MSRCv2: images",
            "GroundTruth/*_GT.bmp  MSRCv2: colour-coded maps, black is void",
        ),
        source="MSRC object recognition database v2, Microsoft Research Cambridge; MSRC7 is its "
        "co-segmentation subset",
        licence="Microsoft Research, non-commercial research use",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        pictures = require_any(self.folder, ("image/", "Images/"), "a folder of images", self.name)
        self._v2 = pictures.name == "Images"
        self._maps = require(
            self.folder,
            "GroundTruth/" if self._v2 else "groundtruth/",
            "a folder of masks",
            self.name,
        )
        self._pictures = pictures

    @cached_property
    def _images(self) -> list[ImageRef]:
        """MSRC7: all. MSRCv2: those that are in a group, as its other images serve no task."""
        images = self._pictured
        if self._v2:
            used = {image_id for group in self._groups.values() for image_id in group}
            images = [ref for ref in images if ref.id in used]
        return images

    @cached_property
    def _pictured(self) -> list[ImageRef]:
        """Every picture there is."""
        if self._v2:
            images = [
                ImageRef(stem, path) for stem, path in by_stem(self._pictures, self.unread).items()
            ]
        else:
            images = [
                ImageRef(f"{folder.name}/{stem}", path)
                for folder in _folders(self._pictures)
                for stem, path in by_stem(folder, self.unread).items()
            ]
        if not images:
            raise DatasetError(
                f"{self._pictures}: expected images, found none; see docs/datasets.md"
            )
        return images

    def images(self) -> Sequence[ImageRef]:
        """Return the pictures in the order of their names."""
        return self._images

    def texts(self) -> Sequence[str]:
        """Return the names of the classes."""
        return tuple(self.groups())

    def truth_files(self) -> Sequence[Path]:
        """Return the masks of the pictures."""
        maps = (self._map_path(ref.id) for ref in self._pictured)
        return [path for path in maps if path is not None]

    def unpictured(self) -> Sequence[str]:
        """Return the names of masks without a picture."""
        names = {self._map_path(ref.id) for ref in self._pictured}
        return [
            name.removesuffix("_GT") for name, path in self._map_files.items() if path not in names
        ]

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Return class -> ids of its images with a mask.

        Images without one, or whose map cannot be used, are in `skipped`.

        MSRCv2: the seven classes of MSRC7; an image belongs to each class that its map shows.
        """
        return self._groups

    @cached_property
    def _groups(self) -> dict[str, tuple[str, ...]]:
        groups: dict[str, list[str]] = defaultdict(list)
        for ref in self._pictured:
            try:
                for category in self._shown(ref.id):
                    groups[category].append(ref.id)
            except DatasetError as error:
                self.skipped.append(str(error))
        if not groups:
            reason = f"; first problem: {self.skipped[0]}" if self.skipped else ""
            raise DatasetError(
                f"{self._maps}: expected masks of the images, found none that fits{reason}; see "
                "docs/datasets.md"
            )
        return {category: tuple(ids) for category, ids in sorted(groups.items())}

    def group_mask(self, image_id: str, category: str) -> LabelMap:
        """Return (height, width) uint8: 1 the class, 0 anything else, 255 void (MSRCv2's black).

        Raises DatasetError.
        """
        path = self.truth_file(image_id)
        if not self._v2:
            return read_binary(path)
        codes = read_codes(path)
        is_class = codes == _code(V2_COLORS[category])
        return np.where(codes == _V2_VOID, np.uint8(VOID), is_class.astype(np.uint8))

    def concepts(self) -> Sequence[str]:
        """Return the names of the classes."""
        return tuple(self.groups())

    def concept_masks(self, image_id: str) -> Mapping[str, LabelMap]:
        """Return the masks of the classes, see HasConcepts.

        MSRCv2's maps tell all classes; of an MSRC7 image its own class alone is annotated. Raises
        DatasetError.
        """
        path = self.truth_file(image_id)
        if not self._v2:
            return {category: read_binary(path) for category in self._shown(image_id)}
        classes = ((_code(color), category) for category, color in V2_COLORS.items())
        return concept_masks(read_codes(path), classes, _V2_VOID)

    def _shown(self, image_id: str) -> list[str]:
        """Return the classes that an image shows.

        Raises DatasetError where it has no mask, or one that cannot be used.
        """
        path = self.truth_file(image_id)
        if not self._v2:
            return [image_id.partition("/")[0]]
        # Codes are compared as numbers: one pass over the map finds all classes.
        present = set(np.unique(read_codes(path)).tolist())
        return [category for category, color in V2_COLORS.items() if _code(color) in present]

    def truth_file(self, image_id: str) -> Path:
        """Return an image's mask. Raises DatasetError where it has none."""
        path = self._map_path(image_id)
        if path is None:
            raise DatasetError(f"{self._maps}: no mask of image {image_id}")
        return path

    def _map_path(self, image_id: str) -> Path | None:
        if self._v2:
            return self._map_files.get(f"{image_id}_GT")
        return self._map_files.get(image_id)

    @cached_property
    def _map_files(self) -> dict[str, Path]:
        if self._v2:
            return by_stem(self._maps)
        return {
            f"{d.name}/{stem}": path
            for d in _folders(self._maps)
            for stem, path in by_stem(d).items()
        }


def read_codes(path: Path) -> IdMap:
    """Return (height, width) int32: the colors of an MSRCv2 map as R + 256 G + 65536 B.

    Raises DatasetError for a map in other colors than MSRCv2's.
    """
    rgb = read_rgb(path).astype(np.int32)
    # One number a color, so that classes are told by comparing numbers.
    codes: IdMap = rgb[..., 0] + (rgb[..., 1] << 8) + (rgb[..., 2] << 16)
    class_codes = [_V2_VOID, *map(_code, V2_COLORS.values()), *map(_code, _V2_OTHERS)]
    present_codes, counts = np.unique(codes, return_counts=True)
    is_odd = ~np.isin(present_codes, class_codes)
    # A few odd pixels are the release's own; many are another palette or swapped channels.
    if counts[is_odd].sum() > _V2_SHARE * codes.size:
        code = int(present_codes[is_odd][counts[is_odd].argmax()])
        color = code & 255, code >> 8 & 255, code >> 16
        raise DatasetError(
            f"{path}: expected MSRCv2's colors, found RGB {color}, which is of no class; "
            "use the maps as released, their channels in the order red, green, blue"
        )
    return codes


def _code(color: tuple[int, int, int]) -> int:
    red, green, blue = color
    return red + (green << 8) + (blue << 16)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))

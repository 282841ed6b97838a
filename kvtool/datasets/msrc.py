"""MSRC for co-segmentation: the MSRC7 folders by class, or the MSRCv2 release with colour-coded maps (protocol 2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import by_stem, require, require_any
from kvtool.datasets.masks import VOID, LabelMap, read_binary, read_rgb
from kvtool.errors import DatasetError

V2_COLOURS = {
    "bird": (0, 64, 0),
    "car": (64, 0, 128),
    "cat": (0, 192, 128),
    "cow": (0, 0, 128),
    "dog": (128, 192, 128),
    "plane": (192, 0, 0),
    "sheep": (0, 128, 128),
}
"""RGB of the seven classes in MSRCv2's `_GT` maps."""


class Msrc(DatasetBase):
    """Groups of images that share a class. Ids are `<class>/<name>` (MSRC7) or `<name>` (MSRCv2)."""

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
        source="MSRC object recognition database v2, Microsoft Research Cambridge; MSRC7 is its co-segmentation subset",
        licence="Microsoft Research, non-commercial research use",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        place = require_any(self.folder, ("image/", "Images/"), "a folder of images", self.name)
        self._v2 = place.name == "Images"
        self._maps = require(
            self.folder, "GroundTruth/" if self._v2 else "groundtruth/", "a folder of masks", self.name
        )
        self._pictures = place

    @cached_property
    def _images(self) -> list[ImageRef]:
        if self._v2:
            images = [ImageRef(stem, path) for stem, path in by_stem(self._pictures).items()]
        else:
            images = [
                ImageRef(f"{folder.name}/{stem}", path)
                for folder in _folders(self._pictures)
                for stem, path in by_stem(folder).items()
            ]
        if not images:
            raise DatasetError(f"{self._pictures}: expected images, found none; see docs/datasets.md")
        return images

    def images(self) -> Sequence[ImageRef]:
        return self._images

    def texts(self) -> Sequence[str]:
        return tuple(self.groups())

    def truth_files(self) -> Sequence[Path]:
        """The masks of the images."""
        maps = (self._map_path(ref.id) for ref in self.images())
        return [path for path in maps if path is not None]

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Class -> ids of its images with a mask. Images without one are named in `skipped`.

        MSRCv2: the seven classes of MSRC7; an image belongs to each class that its map shows.
        """
        return self._groups

    @cached_property
    def _groups(self) -> dict[str, tuple[str, ...]]:
        groups: dict[str, list[str]] = defaultdict(list)
        for ref in self.images():
            if self._map_path(ref.id) is None:
                self.skipped.append(f"{self._maps}: no mask of image {ref.id}")
                continue
            for category in self._shown(ref.id):
                groups[category].append(ref.id)
        if not groups:
            raise DatasetError(
                f"{self._maps}: expected masks of the images, found none that fits; see docs/datasets.md"
            )
        return {category: tuple(ids) for category, ids in sorted(groups.items())}

    def mask(self, image_id: str, category: str) -> LabelMap:
        """(height, width) uint8: 1 the class, 0 anything else, 255 void (MSRCv2's black)."""
        path = self._map_path(image_id)
        if path is None:
            raise DatasetError(f"{self._maps}: no mask of image {image_id}; it belongs to no group")
        if not self._v2:
            return read_binary(path)
        colours = read_rgb(path)
        shown = (colours == V2_COLOURS[category]).all(axis=-1)
        void = (colours == 0).all(axis=-1)
        return np.where(void, np.uint8(VOID), shown.astype(np.uint8))

    def _shown(self, image_id: str) -> list[str]:
        if not self._v2:
            return [image_id.partition("/")[0]]
        path = self._map_path(image_id)
        present = {tuple(colour) for colour in np.unique(read_rgb(path).reshape(-1, 3), axis=0)} if path else set()
        return [category for category, colour in V2_COLOURS.items() if colour in present]

    def _map_path(self, image_id: str) -> Path | None:
        if self._v2:
            return self._map_files.get(f"{image_id}_GT")
        return self._map_files.get(image_id)

    @cached_property
    def _map_files(self) -> dict[str, Path]:
        if self._v2:
            return by_stem(self._maps)
        return {f"{d.name}/{stem}": path for d in _folders(self._maps) for stem, path in by_stem(d).items()}


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))

"""ImageNet-S 50, 300 and 919: semantic segmentation with ImageNet's classes (protocol 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import by_stem, read_lines, require, require_any
from kvtool.datasets.masks import VOID, IdMap, LabelMap, concept_masks, read_rgb
from kvtool.datasets.protocols import LabelConvention
from kvtool.errors import DatasetError

IGNORE = 1000
"""The id of pixels that no metric counts."""

SIZES = (50, 300, 919)
_NAME_FILES = ("words.txt", "LOC_synset_mapping.txt", "synset_words.txt")


class ImageNetS(DatasetBase):
    """One of the three sizes.

    Ids are `<wnid>/<name>`; class ids count the sorted wnids from 1, 0 is other.

    The root is ImageNetS50 (300, 919) itself, or a folder that holds one of them.
    """

    about = About(
        name="imagenet-s",
        title="ImageNet-S 50/300/919, semantic segmentation",
        tasks=("semantic-segmentation",),
        splits=("validation", "train-semi"),
        layout=(
            "ImageNetS{50,300,919}/validation/<wnid>/*.JPEG  images",
            "ImageNetS{50,300,919}/validation-segmentation/<wnid>/*.png  RGB, id = R + 256 G; 1000 "
            "is ignored",
            "words.txt  names of the wnids: words.txt, LOC_synset_mapping.txt or synset_words.txt "
            "as ImageNet has them",
            "ImageNetS_categories_im{50,300,919}.txt  optional: the wnids, where the folders are "
            "not all there",
        ),
        source="ImageNet-S (Gao et al. 2022, large-scale unsupervised semantic segmentation) on "
        "ILSVRC 2012",
        licence="ImageNet's terms of access (non-commercial research)",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self._base = self._sized_folder()
        folders = (f"{self.split}-segmentation/", f"{self.split}/")
        require_any(self._base, folders, "masks and images by wnid", self.name)

    def _sized_folder(self) -> Path:
        inside = sorted(p for p in self.folder.glob("ImageNetS*") if p.is_dir())
        if len(inside) > 1:
            names = ", ".join(p.name for p in inside)
            raise DatasetError(
                f"{self.name}: {self.folder}: expected one size, found {names}; give the path of "
                "one"
            )
        return inside[0] if inside else self.folder

    @property
    def size(self) -> int | None:
        """50, 300 or 919 by the folder's name; None where it says nothing."""
        match = re.search(r"ImageNetS(\d+)", self._base.resolve().name)
        return int(match[1]) if match and int(match[1]) in SIZES else None

    @cached_property
    def _images(self) -> list[ImageRef]:
        folder = require(self._base, f"{self.split}/", "images by wnid", self.name)
        images = [
            ImageRef(f"{wnid.name}/{stem}", path)
            for wnid in _folders(folder)
            for stem, path in by_stem(wnid, self.unread).items()
        ]
        if not images:
            raise DatasetError(
                f"{folder}: expected images in folders by wnid, found none; see docs/datasets.md"
            )
        return images

    def images(self) -> Sequence[ImageRef]:
        """Return the images of the split, class by class."""
        return self._images

    def labelled_ids(self) -> list[str]:
        """Return ids of the images that have a map, sorted; those without are named in
        `skipped`.
        """
        labelled = sorted(self._map_files)
        if (self._base / self.split).is_dir():
            maps = self._map_files
            self.skipped = [
                f"{self._maps}: no map of image {r.id}" for r in self.images() if r.id not in maps
            ]
        return labelled

    @cached_property
    def wnids(self) -> tuple[str, ...]:
        """All classes in the order of their ids. Raises DatasetError where they cannot be known."""
        # An official list of classes comes first: folders may be incomplete.
        for path in self._category_files():
            wnids = [line.split()[0] for line in read_lines(path)]
            self.note_repeated(path, wnids)
            return tuple(sorted(set(wnids)))
        # Without a list the classes are the folders of the split that has most of them.
        folders = (self.split, "validation", "train", f"{self.split}-segmentation")
        lists = [
            [p.name for p in _folders(self._base / folder)]
            for folder in folders
            if (self._base / folder).is_dir()
        ]
        longest = max(lists, key=len)
        # One class less would give all that follow another id.
        if self.size is not None and len(longest) != self.size:
            raise DatasetError(
                f"{self.name}: {self._base}: expected {self.size} class folders, found "
                f"{len(longest)}; "
                f"complete the data set, or put the list ImageNetS_categories_im{self.size}.txt "
                "there"
            )
        return tuple(longest)

    @property
    def _folders_of_lists(self) -> list[Path]:
        """Where lists of classes are looked for, the first first."""
        return list(dict.fromkeys((self._base, self.folder, self._base.parent)))

    def _category_files(self) -> list[Path]:
        """Return the lists of wnids that are there, the one that counts first."""
        pattern = f"ImageNetS_categories_im{self.size or '*'}.txt"
        return [path for folder in self._folders_of_lists for path in sorted(folder.glob(pattern))]

    def class_id(self, image_id: str) -> int:
        """Return the class of an image by its folder, from 1."""
        wnid = image_id.partition("/")[0]
        if wnid not in self.wnids:
            raise self.unknown_image(image_id)
        return self.wnids.index(wnid) + 1

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        paths = [folder / name for folder in self._folders_of_lists for name in _NAME_FILES]
        files = [path for path in paths if path.is_file()]
        if not files:
            raise DatasetError(
                f"{self.name}: {self._base}: expected the classes' names in "
                f"{' or '.join(_NAME_FILES)} "
                "(lines: wnid, name), found none; copy one there from ImageNet"
            )
        names = _read_names(files[0])
        unnamed = [wnid for wnid in self.wnids if wnid not in names]
        if unnamed:
            raise DatasetError(
                f"{files[0]}: expected a name of every class, found none of "
                f"{', '.join(unnamed[:4])}"
            )
        return tuple(names[wnid] for wnid in self.wnids)

    def texts(self) -> Sequence[str]:
        """Return class names in the order of their ids: the first of each synset's words."""
        return self._class_names

    def class_texts(self) -> Sequence[str]:
        """Return the names of the classes in the order of their ids."""
        return self.texts()

    def label_convention(self) -> LabelConvention:
        """Return how label maps number classes: from 1, 0 for the rest."""
        return LabelConvention(first_id=1, ignored_id=IGNORE, has_other=True)

    def single_class(self, image_id: str) -> int | None:
        """Return the image's own class, by its folder."""
        wnid = image_id.partition("/")[0]
        if wnid not in self.wnids:
            raise DatasetError(
                f"{self.truth_file(image_id)}: expected a folder of one of the {len(self.wnids)} "
                f"classes, found {wnid}"
            )
        return self.wnids.index(wnid)

    def truth_files(self) -> Sequence[Path]:
        """Return where the wnids and their names stand or may stand, and the maps."""
        names = [folder / name for folder in self._folders_of_lists for name in _NAME_FILES]
        return [*self._category_files(), *names, *self._map_files.values()]

    def unpictured(self) -> Sequence[str]:
        """Return the names of maps without a picture."""
        if not (self._base / f"{self.split}-segmentation").is_dir():
            return ()
        listed = {ref.id for ref in self.images()}
        return [name for name in self._map_files if name not in listed]

    def truth_file(self, image_id: str) -> Path:
        """Return an image's map. Raises DatasetError where it has none."""
        path = self._map_files.get(image_id)
        if path is None:
            raise DatasetError(
                f"{self._maps}: expected {image_id}.png, found nothing there; leave the image out"
            )
        return path

    def label_map(self, image_id: str) -> IdMap:
        """Return (height, width) int32: 0 other, 1..C class, 1000 ignored. Raises DatasetError."""
        path = self.truth_file(image_id)
        rgb = read_rgb(path)
        # A gray map repeats its value in blue, and swapped channels bring the ids there.
        if rgb[..., 2].any():
            raise DatasetError(
                f"{path}: expected an RGB map with id = R + 256 G and no blue, found blue up to "
                f"{rgb[..., 2].max()}; "
                "it is grey, or its channels are swapped: use the maps as released"
            )
        ids = _ids(rgb)
        n_classes = self._n_classes
        # Ids in range but of another version would pass, those beyond are damage.
        odd = np.unique(ids[(ids != IGNORE) & (ids > n_classes)])
        if odd.size:
            raise DatasetError(
                f"{path}: expected ids 0 to {n_classes} and {IGNORE} as R + 256 G, found {odd[0]}; "
                "use the maps as released"
            )
        return ids

    @cached_property
    def _n_classes(self) -> int:
        """How many classes there may be: as the folder's name says, else those of the largest
        version.
        """
        return self.size or max(SIZES)

    def mask(self, image_id: str) -> LabelMap:
        """Return (height, width) uint8: 1 the image's own class, 0 anything else, 255 ignored."""
        ids = self.label_map(image_id)
        # The own class against all else: other classes count as background here.
        return np.where(
            ids == IGNORE, np.uint8(VOID), (ids == self.class_id(image_id)).astype(np.uint8)
        )

    def concepts(self) -> Sequence[str]:
        """Return the names of the classes; two classes that go by one word are one concept."""
        return tuple(dict.fromkeys(self._class_names))

    def concept_masks(self, image_id: str) -> Mapping[str, LabelMap]:
        """Return the masks of the image's own class and of those that its map shows, see
        HasConcepts.

        The other classes have none: what is of no class in a map may be of a class that nobody
        looked for. Raises DatasetError.
        """
        labels = self.label_map(image_id)
        self.single_class(image_id)  # says so where the folder is of no class
        shown_ids = {self.class_id(image_id), *np.unique(labels).tolist()}
        classes = enumerate(self._class_names, 1)
        annotated = [(number, word) for number, word in classes if number in shown_ids]
        return concept_masks(labels, annotated, IGNORE)

    @property
    def _maps(self) -> Path:
        return require(self._base, f"{self.split}-segmentation/", "maps by wnid", self.name)

    @cached_property
    def _map_files(self) -> dict[str, Path]:
        return {
            f"{d.name}/{stem}": path
            for d in _folders(self._maps)
            for stem, path in by_stem(d).items()
        }


def read_ids(path: Path) -> IdMap:
    """Return (height, width) int32 ids of an ImageNet-S map or prediction."""
    return _ids(read_rgb(path))


def _ids(rgb: np.ndarray[Any, np.dtype[np.uint8]]) -> IdMap:
    channels = rgb.astype(np.int32)  # before multiplying: 256 does not fit uint8
    return np.ascontiguousarray(channels[..., 0] + 256 * channels[..., 1])


def _read_names(path: Path) -> dict[str, str]:
    """wnid -> the first word of its synset; lines are `wnid name, other name`, with a tab or a
    blank between.
    """
    split = (line.split(maxsplit=1) for line in read_lines(path))
    return {parts[0]: parts[1].split(",")[0].strip() for parts in split if len(parts) == 2}


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))

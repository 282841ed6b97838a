"""The label maps of images, and the masks of the classes that are given of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvtool.datasets.protocols import HasLabelMaps
from kvtool.tasks.base import Array
from kvtool.tasks.maps import TruthMask
from kvtool.tasks.truth import Size, Sizes, check_shape
from kvtool.types import GridSpan


class LabelMaps:
    """The label maps of some of a data set's images.

    convention: how they name the classes. single: for each image the index of the one class that
    it is asked about, None for every class of its map.
    """

    def __init__(self, dataset: HasLabelMaps, names: Sequence[str], sizes: Sizes) -> None:
        self.dataset, self.sizes = dataset, sizes
        self.convention = dataset.label_convention()
        self.single = {image: dataset.single_class(image) for image in names}

    def labels(self, image_id: str) -> Array:
        """Return an image's label map. Raises DatasetError for one of another size."""
        labels = self.dataset.label_map(image_id)
        check_shape(labels, self.sizes[image_id], str(self.dataset.truth_file(image_id)))
        return labels

    def truth(self, labels: Array, text: int, span: GridSpan) -> TruthMask:
        """Return the mask of a class, by its index, in a label map."""
        keep = labels != self.convention.ignored_id
        return TruthMask(labels == self.convention.first_id + text, keep, span)

    def given(self, image_id: str, labels: Array) -> list[int]:
        """Return the indices of an image's given classes, as its label map has them."""
        # Of an image with one class of its own only that class is asked about.
        single, first_id = self.single[image_id], self.convention.first_id
        if single is not None:
            return [single]
        # Every class that the map shows is asked about; what is ignored is none.
        ids = np.unique(labels).tolist()
        return [
            class_id - first_id
            for class_id in ids
            if first_id <= class_id != self.convention.ignored_id
        ]


def check_map(dataset: HasLabelMaps, image_id: str, wh_px: Size) -> None:
    """Raises DatasetError where an image's label map cannot be used, or is not of the
    image's size.
    """
    location = str(dataset.truth_file(image_id))
    check_shape(dataset.label_map(image_id), wh_px, location)
    dataset.single_class(image_id)

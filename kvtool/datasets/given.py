"""Pictures given in Python in place of a data set's name: paths, pictures in memory, a Hugging Face
data set.

They count as a list of paths does: a run over them is one of `folder` without a place. What a run
knows them by is what they are; pictures in memory are known by their pixels, made upright RGB as
those of files are.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from kvtool.datasets.base import Dataset, DatasetBase, ImageRef
from kvtool.datasets.folder import ImageFolder, listed_paths
from kvtool.datasets.images import read_bytes, to_rgb
from kvtool.datasets.names import brief
from kvtool.datasets.raster import RasterError
from kvtool.errors import ImageError, UsageError

EXPECTED = (
    "expected a text such as folder:PATH, a list of paths or of PIL images, a datasets.Dataset, "
    "or an object of the data set protocol"
)


class Given(DatasetBase):
    """Pictures that lie nowhere, or wherever each of them says."""

    about = ImageFolder.about

    def __init__(self, refs: Sequence[ImageRef], skipped: Sequence[str] = ()) -> None:
        super().__init__(None)
        self._refs = refs
        self.skipped += skipped

    def default_split(self) -> str:
        """Return no split: pictures that are given have none."""
        return ""

    def images(self) -> Sequence[ImageRef]:
        """Return the pictures in the order in which they were given."""
        return self._refs

    def truth_files(self) -> Sequence[Path]:
        """Return no file: pictures that are given have no truth."""
        return ()


def given_dataset(value: Any) -> Dataset:
    """Return the data set that a value stands for. Raises UsageError for what can be none."""
    if isinstance(value, list | tuple):
        return _of_list(value)
    if type(value).__module__.partition(".")[0] == "datasets":
        return Given(_refs_of_rows(value))
    if isinstance(value, Dataset):
        return value
    raise UsageError(f"dataset: {EXPECTED}; found {type(value).__name__}")


def _of_list(values: Sequence[Any]) -> Given:
    if not values:
        raise UsageError(
            "dataset: expected at least one picture, found an empty list; nothing to extract"
        )
    # Strings are paths, as lines of a list are.
    if all(isinstance(value, str | os.PathLike) for value in values):
        skipped: list[str] = []
        return Given(listed_paths([os.fsdecode(value) for value in values], skipped), skipped)
    # Names of pictures in memory are their places in the list.
    for position, value in enumerate(values):
        if not isinstance(value, Image.Image):
            raise UsageError(
                "dataset: expected a list of paths, or one of PIL images, found "
                f"{type(value).__name__} at {position}"
            )
    return Given(
        [
            ImageRef(str(n), read=partial(picture_bytes, value, str(n)))
            for n, value in enumerate(values)
        ]
    )


def picture_bytes(picture: Image.Image, name: str) -> bytes:
    """Return a picture in memory as the file of its upright RGB pixels (PPM, which has one way to
    write them).

    Raises ImageError where it cannot be decoded.
    """
    # The upright RGB pixels are what the picture is, whatever file it was once read from.
    try:
        upright = to_rgb(ImageOps.exif_transpose(picture))
    except RasterError as error:
        raise ImageError(f"{name}: {error}") from None
    except Exception as error:  # noqa: BLE001  a picture that is read only now may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{name}: expected a picture, found that it cannot be read: {reason}"
        ) from None
    return b"P6\n%d %d\n255\n" % upright.size + upright.tobytes()


def _refs_of_rows(data: Any) -> list[ImageRef]:
    """Return every picture of a Hugging Face data set, row by row; ids are `<column>/<row>`.

    Raises UsageError.
    """
    features = getattr(data, "features", None)
    if not hasattr(data, "cast_column") or not hasattr(data, "__len__") or not features:
        raise UsageError(
            f"dataset: expected a datasets.Dataset, one split of it, found {type(data).__name__}; "
            'take a split, as data["train"], and of a stream some rows'
        )
    columns = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if not columns:
        raise UsageError(
            f"dataset: expected a column of images, found {brief(', '.join(features), 200)}"
        )
    for name in columns:  # the bytes as they are, so that decoding follows kvtool's rules
        data = data.cast_column(name, type(features[name])(decode=False))
    return [
        ImageRef(f"{name}/{row}", read=partial(_cell_bytes, data, row, name))
        for row in range(len(data))
        for name in columns
    ]


def _cell_bytes(data: Any, row: int, column: str) -> bytes:
    """Return the bytes of an image cell, its own or those of the file that it names. Raises
    ImageError.
    """
    label = f"{column}/{row}"
    try:
        cell = data[row][column]
    except Exception as error:  # noqa: BLE001  another library's
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{label}: expected a row of the data set, found: {reason}") from None
    if not isinstance(cell, dict) or not (cell.get("bytes") or cell.get("path")):
        raise ImageError(f"{label}: expected an image, found none")
    if cell.get("bytes"):
        return bytes(cell["bytes"])
    return read_bytes(ImageRef(label, Path(cell["path"])))[0]


def check_travels(dataset: Dataset) -> None:
    """Raises UsageError where pictures cannot be sent to worker processes."""
    try:
        pickle.dumps(next(iter(dataset.images()), None))
    except Exception as error:  # noqa: BLE001  pickling runs others' code
        raise UsageError(
            "dataset: expected pictures that can be sent to the workers of several devices, "
            f"found: {error}; "
            "use one device, or write them to a folder"
        ) from None

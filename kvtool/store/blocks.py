"""What reading a run gives: vectors of a block over images, and where each image's tokens lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.filesize import decimal

from kvtool.display import Displayed, Facts, listing
from kvtool.store.encoding import Bits
from kvtool.types import Sample


@dataclass(frozen=True, repr=False)
class ImageTokens(Displayed):
    """Where one image's tokens lie in the values of a block: values[..., start:stop, :]."""

    sample: Sample
    start: int
    stop: int

    @property
    def id(self) -> str:
        """The image's id in its data set."""
        return self.sample.id

    @property
    def grid(self) -> tuple[int, int]:
        """The (rows, cols) of the base view, or of each grid of a video."""
        return self.sample.grid

    def _title(self) -> str:
        return f"Tokens of image {self.id}"

    def _facts(self) -> Facts:
        rows, cols = self.grid
        return {
            "tokens": f"values[..., {self.start}:{self.stop}, :]",
            "base grid": f"{rows} x {cols}",
        }


@dataclass(frozen=True, repr=False)
class BlockValues(Displayed):
    """What a run holds of one block over images, or of several: it unpacks as `values, images`.

    values: (token, dim), with (layer,), (kv_head,) or (layer, kv_head) in front where several were
    asked for. samples: the images in the order of the tokens. offsets: (image + 1) the first token
    of each, and their number.
    """

    values: Bits
    samples: tuple[Sample, ...]
    offsets: NDArray[np.int64]

    @property
    def images(self) -> list[ImageTokens]:
        """Each image, and where its tokens lie in the values."""
        ends = self.offsets.tolist()
        return list(map(ImageTokens, self.samples, ends[:-1], ends[1:]))

    def __iter__(self) -> Iterator[Any]:
        """Yield the values, then the images."""
        return iter((self.values, self.images))

    def _title(self) -> str:
        return f"Values of {len(self.samples)} images"

    def _facts(self) -> Facts:
        return _facts_of_values(self.values, self.samples)


@dataclass(frozen=True, repr=False)
class PartSlice(Displayed):
    """One layer of the chosen images of one part.

    values: (head, token, dim). samples: the images in the order of the tokens. offsets: (image + 1)
    the first token of each, and their number.
    """

    samples: tuple[Sample, ...]
    offsets: NDArray[np.int64]
    values: Bits

    def _title(self) -> str:
        return f"A layer of {len(self.samples)} images"

    def _facts(self) -> Facts:
        return _facts_of_values(self.values, self.samples)


def _facts_of_values(values: Bits, samples: Sequence[Sample]) -> Facts:
    """Return what `repr` shows of an array over images; its numbers are not looked at."""
    return {
        "shape": values.shape,
        "dtype": values.dtype,
        "bytes": decimal(values.nbytes),
        "images": listing([sample.id for sample in samples]),
    }

"""The images of one layer of a run, as probes see them: vectors on the base grid, read once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.store import PartSlice, Run
from kvtool.types import GridSpan, Kind, Sample

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]

HELD_BYTES = 2**30
"""Most stored bytes of one layer that are kept for a second use; images beyond are read again."""


@dataclass(frozen=True)
class GridImage:
    """One image in one layer.

    `stored` (head, row * col, dim) holds the vectors on the base grid, row-major, in the run's
    precision.
    """

    sample: Sample
    span: GridSpan
    stored: torch.Tensor

    @cached_property
    def values(self) -> torch.Tensor:
        """The vectors in float32, (head, row * col, dim)."""
        return self.stored.float()

    @property
    def id(self) -> str:
        """The image's id."""
        return self.sample.id

    @property
    def grid(self) -> tuple[int, int]:
        """The rows and columns of the base grid."""
        return self.span.grid

    @property
    def wh_px(self) -> tuple[int, int]:
        """Width and height of the original image in pixels."""
        return self.sample.image_wh_px

    def shares_tokens(self, frame: GridImage) -> bool:
        """Return whether another frame of the same video is shown by the same tokens."""
        ours, theirs = self.sample, frame.sample
        return (ours.index, ours.image_start) == (theirs.index, theirs.image_start)

    def cells(self, points_px: Iterable[tuple[float, float]]) -> list[int]:
        """Return the row-major index of the cell under each (x, y)."""
        cells = (self.span.cell_at(x, y) for x, y in points_px)
        return [row * self.grid[1] + col for row, col in cells]

    def centres_px(self) -> Array:
        """Return the centers of the cells, see centers_px."""
        return centers_px(self.span)


def centers_px(span: GridSpan) -> Array:
    """Return the centers of a grid's cells, (row * col, 2): (x, y) in pixels of the original
    image."""
    x0, y0, x1, y1 = span.cover_xyxy_px
    rows, cols = span.grid
    # Cells share the covered rectangle evenly.
    x = x0 + (np.arange(cols) + 0.5) * (x1 - x0) / cols
    y = y0 + (np.arange(rows) + 0.5) * (y1 - y0) / rows
    return np.stack([np.tile(x, rows), np.repeat(y, cols)], axis=1)


class Layer:
    """One (kind, layer) of a run, with chosen heads.

    Memory: HELD_BYTES, on the device, one part's slice, and the images in use. An image that is
    held goes to the device once, whatever asks for it.

    nonfinite (head,) counts the NaNs and infinities of the vectors handed out so far, each image
    once: the images' base grids, and vectors of texts (see count_nonfinite). What is computed from
    such values means nothing.
    """

    def __init__(
        self,
        run: Run,
        kind: Kind,
        layer: int,
        heads: Sequence[int],
        device: torch.device,
        held_bytes: int | None = None,
    ) -> None:
        self.run = run
        self.kind = kind
        self.layer = layer
        self.heads = list(heads)
        self.device = device
        self._budget = HELD_BYTES if held_bytes is None else held_bytes
        self._held: OrderedDict[str, tuple[Sample, torch.Tensor]] = OrderedDict()
        self.held_bytes = 0
        self.nonfinite = np.zeros(len(self.heads), np.int64)
        # Parts record where such values are, so that images of sound blocks need no look.
        spoiled = run.nonfinite()
        self._suspect = any((kind, layer, head) in spoiled for head in self.heads)
        self._counted: set[str] = set()

    def count_nonfinite(self, values: torch.Tensor) -> None:
        """Count values (head, ...) that were read beside the images."""
        self.nonfinite += (~values.isfinite()).flatten(1).sum(1).cpu().numpy()

    def each(self, ids: Iterable[str]) -> Iterator[GridImage]:
        """Yield every image once, in no promised order: those in memory first, then the others part
        by part."""
        # An image asked for twice is yielded once.
        images = dict.fromkeys(ids)
        unread = [image for image in images if image not in self._held]
        # Those in memory are taken first: what the caller reads meanwhile may let go of them.
        entries = [self._held[image] for image in images if image in self._held]
        for sample, vectors in entries:
            if sample.id in self._held:
                self._held.move_to_end(sample.id)
            yield self._grid_image(sample, vectors)
        if unread:
            # In the run's precision: half the bytes to hold and to move.
            for _, part in self.run.stream(self.kind, [self.layer], unread, raw=True):
                for sample, stored in self._images(part):
                    vectors = self._on_device(sample, stored)
                    self._hold(sample, vectors)
                    yield self._grid_image(sample, vectors)

    def get(self, ids: Iterable[str]) -> dict[str, GridImage]:
        """Return some images at once, by id."""
        return {image.id: image for image in self.each(ids)}

    def _images(self, part: PartSlice) -> Iterator[tuple[Sample, Array]]:
        bounds = part.offsets.tolist()
        for sample, start, stop in zip(part.samples, bounds, bounds[1:], strict=False):
            yield sample, part.values[self.heads, start:stop]

    def _hold(self, sample: Sample, vectors: torch.Tensor) -> None:
        """Keep an image; the longest unused go first."""
        # A second reader of the same images may have been first.
        if vectors.nbytes > self._budget or sample.id in self._held:
            return
        self._held[sample.id] = sample, vectors
        self.held_bytes += vectors.nbytes
        # Least recently used first: an ordered dict begins with it.
        while self.held_bytes > self._budget:
            _, (_, oldest) = self._held.popitem(last=False)
            self.held_bytes -= oldest.nbytes

    def _on_device(self, sample: Sample, stored: Array) -> torch.Tensor:
        """Return an image's vectors on the base grid, (head, row * col, dim), in the run's
        precision.
        """
        import torch

        span = sample.base(self.kind)
        rows, cols = span.grid
        # Torch has no uint16: bfloat16 bits travel as int16 and are viewed again.
        bits = stored.view(np.int16) if stored.dtype == np.uint16 else stored
        # Without newline tokens the grid is one piece of memory, else its tokens are gathered.
        if span.row_stride == cols:
            bits = bits[:, span.start : span.start + rows * cols]
        else:
            bits = bits[:, span.token_indices()]
        vectors = torch.from_numpy(np.ascontiguousarray(bits)).to(self.device)
        return vectors.view(torch.bfloat16) if stored.dtype == np.uint16 else vectors

    def _grid_image(self, sample: Sample, vectors: torch.Tensor) -> GridImage:
        # Each image counts once, however often it is handed out.
        if self._suspect and sample.id not in self._counted:
            self._counted.add(sample.id)
            self.count_nonfinite(vectors)
        return GridImage(sample, sample.base(self.kind), vectors)


def upsampling(span: GridSpan, wh_px: tuple[int, int]) -> tuple[Array, Array]:
    """Return the bilinear weights from a grid's cells to an image's pixels.

    These are (height, rows) and (width, cols) float32. Cell and pixel centers are at half
    positions; beyond the outermost cell centers the border's value holds.
    """
    x0, y0, x1, y1 = span.cover_xyxy_px
    rows, cols = span.grid
    return _weights(wh_px[1], y0, y1, rows), _weights(wh_px[0], x0, x1, cols)


def _weights(pixels: int, start: float, stop: float, cells: int) -> Array:
    # Pixel centers in units of cells, where cell centers are whole numbers.
    position = np.clip(
        (np.arange(pixels) + 0.5 - start) / (stop - start) * cells - 0.5, 0, cells - 1
    )
    # Each pixel lies between two cell centers; the nearer one weighs more.
    low = np.minimum(position.astype(int), max(cells - 2, 0))
    weights = np.zeros((pixels, cells), np.float32)
    weights[np.arange(pixels), low] = 1 - (position - low)
    # Added, not set: with a single cell both neighbors are the same.
    weights[np.arange(pixels), np.minimum(low + 1, cells - 1)] += position - low
    return weights


def upsample(maps: torch.Tensor, span: GridSpan, wh_px: tuple[int, int]) -> torch.Tensor:
    """Upsample maps (..., row * col) on a grid to (..., height, width), bilinearly."""
    import torch

    down, across = (torch.from_numpy(w).to(maps) for w in upsampling(span, wh_px))
    on_grid = maps.reshape(*maps.shape[:-1], *span.grid)
    # The two directions are separable: columns first, then rows.
    return torch.matmul(down, torch.matmul(on_grid, across.T))


def cell_shares(mask: Array, span: GridSpan) -> Array:
    """Count the true pixels of a mask (H, W) whose center lies in each cell, (row * col,).

    Pixels outside the grid's cover count nowhere.
    """
    x0, y0, x1, y1 = span.cover_xyxy_px
    rows, cols = span.grid
    # Membership is separable: a one-hot of the row times one of the column.
    down = _membership(mask.shape[0], y0, y1, rows)
    across = _membership(mask.shape[1], x0, x1, cols)
    return np.asarray(down.T @ mask.astype(np.float32) @ across).reshape(-1)


def patch_labels(mask: Array, span: GridSpan) -> tuple[Array, Array]:
    """Return the majority label of each patch of a mask (H, W) of 1, 0 and 255 (void), and whether
    it has any pixel that is not void; both (row * col,) bool."""
    # Void (255) is in neither count, so the majority is over what is labeled.
    foreground = cell_shares(mask == 1, span)
    background = cell_shares(mask == 0, span)
    return foreground > background, foreground + background > 0


def _membership(pixels: int, start: float, stop: float, cells: int) -> Array:
    """Return the cell that holds each pixel's center, (pixels, cells) float32 one-hot."""
    # Floor, not truncation: pixels before the cover get a negative cell, which is none.
    cell = np.floor((np.arange(pixels) + 0.5 - start) / (stop - start) * cells).astype(int)
    return _one_hot(cell, cells)


def _one_hot(cell: Array, cells: int) -> Array:
    """Return (pixels, cells) float32 of the cell of each pixel (pixels,); all 0 for another."""
    one_hot: Array = cell[:, None] == np.arange(cells)
    return one_hot.astype(np.float32)


def cell_pixels(mask: Array, span: GridSpan) -> Array:
    """Count the true pixels of a mask (H, W) by cell, (row * col,) int64.

    Pixels outside the grid's cover count in the nearest cell.
    """
    down, across = nearest_cells(span, (mask.shape[1], mask.shape[0]))
    rows, cols = span.grid
    # Rows together first, then columns, each as a product with a one-hot matrix. A column has fewer
    # pixels than float32 counts exactly, a picture may have more.
    tall = _one_hot(down, rows).T @ mask.astype(np.float32)
    counts: Array = tall @ _one_hot(across, cols).astype(np.float64)
    return counts.astype(np.int64).reshape(-1)


def nearest_cells(span: GridSpan, wh_px: tuple[int, int]) -> tuple[Array, Array]:
    """Return the grid row of each pixel row (height,), and the grid column of each pixel column
    (width,).

    Pixels outside the grid's cover take the nearest cell.
    """
    x0, y0, x1, y1 = span.cover_xyxy_px
    # The cell under each pixel's center, then clipped to the nearest there is.
    down = np.floor((np.arange(wh_px[1]) + 0.5 - y0) / (y1 - y0) * span.grid[0]).astype(int)
    across = np.floor((np.arange(wh_px[0]) + 0.5 - x0) / (x1 - x0) * span.grid[1]).astype(int)
    return np.clip(down, 0, span.grid[0] - 1), np.clip(across, 0, span.grid[1] - 1)

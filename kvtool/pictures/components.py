"""Pictures of keys or values: three principal components of every block's base grid as red, green
and blue.

As the paper's figures 4 and 16 to 18: layers across, heads down, input-agnostic blocks framed.
Components are those of all images drawn together, and so are the ranges of the colors: what looks
alike in two pictures is alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kvtool.outputs import write_output
from kvtool.store import Run
from kvtool.types import Kind, Sample

Head = tuple[int, int]
Vectors = NDArray[np.float32]

WIDTH_PX = 1760
"""What a picture's cells share, unless a token is one pixel wide already."""
CELL_PX = 128
GAP_PX = 8
LEFT_PX = 76
TOP_PX = 56
BOTTOM_PX = 32
FRAME_PX = 3
INK = (40, 40, 40)
PAPER = (255, 255, 255)
FRAME = (225, 20, 100)
TEXT_PX = 16


def draw(run: Run, kind: Kind, ids: Sequence[str], folder: Path, framed: set[Head]) -> list[Path]:
    """Write a PNG for each image into `folder` and return the paths.

    `framed` are (layer, kv_head) of blocks to frame. Memory: one layer of these images, and
    pictures. Raises KvtoolError where the folder cannot be written.
    """
    sheets = draw_sheets(run, kind, ids, framed)
    index_of = {sample.id: sample.index for sample in run.samples}
    paths = [folder / f"{index_of[image]:07d}-{_safe(image)}-{kind}.png" for image in sheets]
    for sheet, path in zip(sheets.values(), paths, strict=True):
        data = BytesIO()
        sheet.picture.save(data, format="PNG")
        write_output(path, data.getvalue(), "pictures: -o", make_folder=True)
    return paths


def draw_sheets(
    run: Run,
    kind: Kind,
    ids: Sequence[str],
    framed: set[Head] | None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> dict[str, Sheet]:
    """Return each image's sheet, by its id, of all stored layers and heads of a kind or of some.

    `framed` are (layer, kv_head) of input-agnostic blocks, None where nobody has looked for them.
    """
    # Every image once, in the order of the ids.
    images = list(dict.fromkeys(ids))
    samples = {sample.id: sample for sample in run.views if sample.id in set(images)}
    columns = run.config.stored_layers(kind) if layers is None else layers
    rows = range(run.config.heads_and_dim(kind)[0]) if heads is None else heads
    sheets = {
        image: Sheet(samples[image].base(kind).grid, len(columns), len(rows)) for image in images
    }
    for column, (layer, values) in enumerate(_layers(run, kind, images, columns)):
        # Where each image's tokens end among those of all, to take the colors apart again.
        ends = np.cumsum([values[image].shape[1] for image in images])
        for row, head in enumerate(rows):
            if head >= run.config.count_heads(kind, layer):
                for sheet in sheets.values():
                    sheet.leave_out(column, row)
                continue
            # Components of all images together, so that a color means the same in each of them.
            colors = rgb(np.concatenate([values[image][head] for image in images]))
            for image, image_colors in zip(images, np.split(colors, ends[:-1]), strict=True):
                sheets[image].paste(column, row, image_colors, (layer, head) in (framed or ()))
    note = (
        "framed: input-agnostic" if framed else "no block is input-agnostic, or none is known to be"
    )
    note = "" if framed is None else note
    for image in images:
        sheets[image].label(f"{kind} of image {image}, run {run.name}", columns, rows, note)
    return sheets


class Sheet:
    """The picture of one image, filled cell by cell."""

    def __init__(self, grid: tuple[int, int], n_layers: int, n_heads: int) -> None:
        rows, cols = grid
        room = min(CELL_PX, WIDTH_PX // n_layers - GAP_PX)
        self.grid = grid
        self.scale = max(1, room // max(rows, cols))
        self.cell_px = cols * self.scale, rows * self.scale
        width = LEFT_PX + n_layers * (self.cell_px[0] + GAP_PX)
        height = TOP_PX + n_heads * (self.cell_px[1] + GAP_PX) + BOTTOM_PX
        self.picture = Image.new("RGB", (max(width, 480), height), PAPER)
        self.pen = ImageDraw.Draw(self.picture)
        self.font: Any = ImageFont.load_default(TEXT_PX)

    def corner_px(self, column: int, row: int) -> tuple[int, int]:
        """Return the upper left corner of a cell."""
        return LEFT_PX + column * (self.cell_px[0] + GAP_PX), TOP_PX + row * (
            self.cell_px[1] + GAP_PX
        )

    def paste(self, column: int, row: int, colors: NDArray[np.uint8], framed: bool) -> None:
        """Draw one block's colors (token, 3) of the base grid."""
        x, y = self.corner_px(column, row)
        cell = Image.fromarray(colors.reshape(*self.grid, 3)).resize(
            self.cell_px, Image.Resampling.NEAREST
        )
        self.picture.paste(cell, (x, y))
        if framed:
            width, height = self.cell_px
            box = (x - FRAME_PX, y - FRAME_PX, x + width + FRAME_PX - 1, y + height + FRAME_PX - 1)
            self.pen.rectangle(box, outline=FRAME, width=FRAME_PX)

    def leave_out(self, column: int, row: int) -> None:
        """Say in a cell that the layer has no such head."""
        x, y = self.corner_px(column, row)
        self._write(x, y + self.cell_px[1] // 2 - TEXT_PX // 2, "none")

    def label(self, title: str, layers: Sequence[int], heads: Sequence[int], note: str) -> None:
        """Write a title, a number over each layer, one beside each head, and a note below."""
        self._write(8, 6, title)
        self._write(8, TOP_PX - 24, "layer")
        for column, layer in enumerate(layers):
            self._write(self.corner_px(column, 0)[0], TOP_PX - 24, str(layer))
        for row, head in enumerate(heads):
            self._write(
                8, self.corner_px(0, row)[1] + self.cell_px[1] // 2 - TEXT_PX // 2, f"head {head}"
            )
        self._write(8, self.picture.height - BOTTOM_PX + 6, note)

    def _write(self, x: int, y: int, text: str) -> None:
        self.pen.text((x, y), text, fill=INK, font=self.font)


def rgb(vectors: Vectors) -> NDArray[np.uint8]:
    """Return the colors (token, 3) of vectors (token, dim).

    Each principal component spans its 1st to its 99th percentile; its sign is that its largest
    loading is positive. A component that does not vary is gray. A vector that is not finite has no
    color: white.
    """
    usable = np.isfinite(vectors).all(axis=1)
    colors = np.full((len(vectors), 3), PAPER, np.uint8)
    if usable.any():
        colors[usable] = _components(vectors[usable].astype(np.float64))
    return colors


def _components(finite: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the colors (token, 3) of finite vectors."""
    # Principal axes are the right singular vectors of the centered vectors.
    centered = finite - finite.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    # The sign of a component is arbitrary: the largest loading is made positive.
    axes = axes[:3] * np.sign(
        np.take_along_axis(axes[:3], np.abs(axes[:3]).argmax(axis=1)[:, None], axis=1)
    )
    # With fewer than three axes the colors that are left have no variation.
    parts = np.zeros((len(finite), 3))
    parts[:, : len(axes)] = centered @ axes.T
    # Few outliers must not squeeze all else into one shade.
    low, high = np.quantile(parts, [0.01, 0.99], axis=0)
    # Rounding alone is no variation.
    varies = high - low > 1e-6 * np.abs(finite).max(initial=1e-30)
    share = np.where(varies, (parts - low) / np.where(varies, high - low, 1.0), 0.5)
    colors: NDArray[np.uint8] = np.rint(255 * share.clip(0, 1)).astype(np.uint8)
    return colors


def _layers(
    run: Run, kind: Kind, ids: Sequence[str], layers: Sequence[int]
) -> Iterator[tuple[int, dict[str, Vectors]]]:
    """Yield (layer, values (head, token, dim) of the base grid of each image)."""
    values: dict[str, Vectors] = {}
    for layer, part in run.stream(kind, layers, ids):
        for sample, start in zip(part.samples, part.offsets[:-1].tolist(), strict=True):
            values[sample.id] = part.values[:, start + _tokens(sample, kind)]
        if len(values) == len(ids):
            yield layer, values
            values = {}


def _tokens(sample: Sample, kind: Kind) -> NDArray[np.int64]:
    return np.array(sample.base(kind).token_indices(), np.int64)


def _safe(image: str) -> str:
    """Return an image's id as part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", image)[-100:]

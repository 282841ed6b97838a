"""What the layouts share: random streams, image files, masks as polygons or run lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt
from PIL import Image

Size = Literal["small", "medium", "large"]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Vertex = tuple[int, int]
"""A corner of a pixel, or a step from one to the next, (x, y)."""
JPEG_QUALITY = 90


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random stream of one picture.

    It depends on the seed and the names alone, not on what was drawn before.
    """
    return np.random.default_rng([seed, *(crc32(str(name).encode()) for name in names)])


def save_jpeg(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Save an image (H, W, 3) as a JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="JPEG", quality=JPEG_QUALITY)


def save_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Save (H, W) as gray levels, (H, W, 3) as RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")


def save_labels(path: Path, labels: Labels) -> None:
    """Save ids (H, W) as an indexed PNG with the palette of VOC and DAVIS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    indexed = Image.fromarray(labels)
    indexed.putpalette(label_palette())
    indexed.save(path, format="PNG")


def save_text(path: Path, text: str) -> None:
    """Save a text as UTF-8, with plain newlines on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def save_json(path: Path, content: Any) -> None:
    """Save the content as JSON on one line."""
    save_text(path, json.dumps(content))


def label_palette() -> list[int]:
    """Return the 256 colors of VOC's and DAVIS's label maps, R, G and B one after the other.

    The bits of the id are dealt to the three channels in turn and fill each from the highest bit.
    """
    palette = []
    for label in range(256):
        for channel in range(3):
            bits = [(label >> (3 * step + channel)) & 1 for step in range(8)]
            palette.append(sum(bit << (7 - step) for step, bit in enumerate(bits)))
    return palette


def border(labels: npt.NDArray[Any]) -> Mask:
    """Mark the pixels that differ from the next one to the right or below, (H, W) -> (H, W).

    They are the void line between regions.
    """
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def touches(thing_map: Labels, back: int, front: int) -> bool:
    """Tell whether visible pixels of two things of a drawing (H, W) lie side by side.

    The one in front, which has the larger index, then hides a part of the other.
    """
    mask = np.pad(thing_map == back + 1, 1)
    beside = mask[:-2, 1:-1] | mask[2:, 1:-1] | mask[1:-1, :-2] | mask[1:-1, 2:]
    return bool((thing_map[beside] == front + 1).any())


def run_lengths(mask: Mask) -> dict[str, list[int]]:
    """Encode a mask (H, W) as COCO's uncompressed run lengths.

    They go down column after column and begin with background.
    """
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([[0], changes, [mask.size]])
    counts = np.diff(ends)
    # A mask that reaches the last pixel has its final change at the very end: no run follows.
    counts = counts[:-1] if len(changes) and changes[-1] == mask.size else counts
    return {"counts": [int(count) for count in counts], "size": [int(side) for side in mask.shape]}


def polygons(mask: Mask) -> list[list[float]] | None:
    """Outline the mask (H, W) along pixel edges, one polygon per 4-connected region.

    A polygon is flat, [x, y, x, y, ...] in pixels; pycocotools fills it to the same mask. The
    outlines are None where polygons cannot say the mask: it has a hole, or is empty.
    """
    loops = _loops(mask)
    if not loops or any(_signed_area(loop) < 0 for loop in loops):
        return None
    return [_flat(_corners(loop)) for loop in loops]


def _flat(corners: list[Vertex]) -> list[float]:
    return [float(coordinate) for corner in corners for coordinate in corner]


def _loops(mask: Mask) -> list[list[Vertex]]:
    """Walk around the mask's regions along pixel edges, with the mask on the right-hand side.

    Where two regions share a vertex, the walk turns right and thus stays at its own region.
    """
    steps = _edge_steps(mask)
    loops = []
    while steps:
        start = next(iter(steps))
        step = steps[start][0]
        loop = [start]
        vertex = start
        while True:
            # An edge that was walked is used up.
            steps[vertex].remove(step)
            if not steps[vertex]:
                del steps[vertex]
            vertex = (vertex[0] + step[0], vertex[1] + step[1])
            # Back at the start the walk ends, unless its own region goes on from there.
            if vertex == start and (vertex not in steps or _right(step) not in steps[vertex]):
                break
            loop.append(vertex)
            onward = steps[vertex]
            step = _right(step) if _right(step) in onward else onward[0]
        loops.append(loop)
    return loops


def _edge_steps(mask: Mask) -> dict[Vertex, list[Vertex]]:
    """Return the directions (dx, dy) in which edges of the mask leave each vertex."""
    padded = np.pad(mask, 1)
    steps: dict[Vertex, list[Vertex]] = {}
    inside = padded[1:-1, 1:-1]
    # The neighbor that is outside, the edge's start seen from the pixel's upper left corner, and
    # the edge's direction.
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    for neighbor, (x0, y0), step in sides:
        for row, column in zip(*np.nonzero(inside & ~neighbor), strict=True):
            steps.setdefault((int(column) + x0, int(row) + y0), []).append(step)
    return steps


def _right(step: Vertex) -> Vertex:
    return -step[1], step[0]


def _corners(loop: list[Vertex]) -> list[Vertex]:
    """Return the vertices where the walk turns."""
    turns = []
    before = [loop[-1], *loop[:-1]]
    after = [*loop[1:], loop[0]]
    for (x0, y0), (x1, y1), (x2, y2) in zip(before, loop, after, strict=True):
        if (x1 - x0, y1 - y0) != (x2 - x1, y2 - y1):
            turns.append((x1, y1))
    return turns


def _signed_area(loop: list[Vertex]) -> int:
    """Return twice the area in the loop: positive around a region, negative around a hole."""
    return sum(
        x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, [*loop[1:], loop[0]], strict=True)
    )

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
JPEG_QUALITY = 90


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The random stream of one picture: it depends on the seed and its names alone, not on what was drawn before."""
    return np.random.default_rng([seed, *(crc32(str(name).encode()) for name in names)])


def save_jpeg(path: Path, image: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="JPEG", quality=JPEG_QUALITY)


def save_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """(H, W) as gray levels, (H, W, 3) as RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")


def save_labels(path: Path, labels: Labels) -> None:
    """(H, W) ids as an indexed PNG with the palette of VOC and DAVIS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    indexed = Image.fromarray(labels)
    indexed.putpalette(label_palette())
    indexed.save(path, format="PNG")


def save_text(path: Path, text: str) -> None:
    """UTF-8 with plain newlines on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def save_json(path: Path, content: Any) -> None:
    save_text(path, json.dumps(content))


def label_palette() -> list[int]:
    """The 256 colors of VOC's and DAVIS's label maps: the bits of the id dealt to R, G and B, highest first."""
    palette = []
    for label in range(256):
        for channel in range(3):
            bits = [(label >> (3 * step + channel)) & 1 for step in range(8)]
            palette.append(sum(bit << (7 - step) for step, bit in enumerate(bits)))
    return palette


def border(labels: npt.NDArray[Any]) -> Mask:
    """Pixels that differ from the next one to the right or below: the void line between regions."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def touches(thing_map: Labels, index: int, other: int) -> bool:
    """Whether visible pixels of two things of a drawing lie side by side; the later one hides a part of the earlier."""
    mask = np.pad(thing_map == index + 1, 1)
    around = mask[:-2, 1:-1] | mask[2:, 1:-1] | mask[1:-1, :-2] | mask[1:-1, 2:]
    return bool((thing_map[around] == other + 1).any())


def run_lengths(mask: Mask) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths: columns first, beginning with background."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([[0], changes, [mask.size]])
    counts = np.diff(ends)
    # A mask that reaches the last pixel has its final change at the very end: no empty run after it.
    counts = counts[:-1] if len(changes) and changes[-1] == mask.size else counts
    return {"counts": [int(count) for count in counts], "size": [int(side) for side in mask.shape]}


def polygons(mask: Mask) -> list[list[float]] | None:
    """Outlines of the mask along pixel edges, one per 4-connected region, flat [x, y, x, y, ...] in pixels.

    pycocotools fills them to the same mask. None where polygons cannot say the mask: it has a hole, or is empty.
    """
    loops = _loops(mask)
    if not loops or any(_signed_area(loop) < 0 for loop in loops):
        return None
    return [[float(side) for corner in _corners(loop) for side in corner] for loop in loops]


Vertex = tuple[int, int]


def _loops(mask: Mask) -> list[list[Vertex]]:
    """Closed walks along pixel edges, the mask on the right-hand side; where two regions share a vertex, turn right."""
    padded = np.pad(mask, 1)
    steps: dict[Vertex, list[Vertex]] = {}
    inside = padded[1:-1, 1:-1]
    # Neighbor outside, the edge's start and its direction (dx, dy), both from the pixel's upper left corner.
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    for neighbor, (x0, y0), step in sides:
        for row, column in zip(*np.nonzero(inside & ~neighbor), strict=True):
            steps.setdefault((int(column) + x0, int(row) + y0), []).append(step)
    loops = []
    while steps:
        start = next(iter(steps))
        loop, vertex, step = [start], start, steps[start][0]
        while True:
            steps[vertex].remove(step)
            if not steps[vertex]:
                del steps[vertex]
            vertex = (vertex[0] + step[0], vertex[1] + step[1])
            if vertex == start and (vertex not in steps or _right(step) not in steps[vertex]):
                break
            loop.append(vertex)
            onward = steps[vertex]
            step = _right(step) if _right(step) in onward else onward[0]
        loops.append(loop)
    return loops


def _right(step: Vertex) -> Vertex:
    return -step[1], step[0]


def _corners(loop: list[Vertex]) -> list[Vertex]:
    """The vertices where the walk turns."""
    turns = []
    for before, here, after in zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True):
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1]):
            turns.append(here)
    return turns


def _signed_area(loop: list[Vertex]) -> int:
    """Positive around a region, negative around a hole."""
    return sum(
        x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, [*loop[1:], loop[0]], strict=True)
    )

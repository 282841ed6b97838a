"""Annotations as users meet them: cut off, turned, of another size, in another mode, or not there
at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def _as_mode(mode: str) -> Callable[[Path], None]:
    def convert(path: Path) -> None:
        with Image.open(path) as image:
            image.load()
        pixels = np.asarray(image.convert("L"))
        changed = (
            Image.fromarray(pixels.astype(np.uint16) * 257)
            if mode == "I;16"
            else image.convert(mode)
        )
        changed.save(path, format="PNG")

    return convert


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_text("<html>404 not found</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def turned(path: Path) -> None:
    """By a quarter, as a picture is whose EXIF orientation was applied to one of the two alone."""
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(path, format=image.format)


def half_size(path: Path) -> None:
    with Image.open(path) as image:
        small = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
        small.save(path, format=image.format)


FILES: dict[str, Callable[[Path], None]] = {
    "truncated": truncated,
    "text": text,
    "empty": empty,
    "missing": missing,
    "turned": turned,
    "half-size": half_size,
}
"""What makes a mask of any kind unusable."""

MODES: dict[str, Callable[[Path], None]] = {
    mode: _as_mode(mode) for mode in ("RGB", "RGBA", "LA", "I;16", "1")
}
"""What makes a map of label ids unusable: the ids are gone, or are not what they seem."""


def swapped(path: Path) -> None:
    """Red and blue in each other's place, as OpenCV writes them."""
    with Image.open(path) as image:
        Image.fromarray(np.asarray(image.convert("RGB"))[..., ::-1]).save(path)


def black(path: Path) -> None:
    with Image.open(path) as image:
        Image.new(image.mode, image.size).save(path)

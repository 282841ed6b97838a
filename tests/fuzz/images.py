"""Pictures and masks in every format that Pillow writes, damaged: decoded as Pillow decodes them,
or refused.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tests.fuzz.kind import Kind
from tests.fuzz.mutate import hostile_bytes
from tests.fuzz.oracle import Wrong, refused
from tests.fuzz.places import odd_file, write

PLAIN_MODES = ("1", "L", "RGB", "CMYK", "YCbCr")
"""Modes whose way to RGB is Pillow's own conversion, and nothing else."""

_MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpg": ("L", "RGB", "CMYK"),
    "bmp": ("1", "L", "P", "RGB"),
    "gif": ("L", "P"),
    "tif": ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F", "I"),
    "webp": ("RGB", "RGBA"),
    "avif": ("RGB", "RGBA"),
    "jp2": ("L", "RGB", "RGBA"),
    "ppm": ("1", "L", "RGB"),
}
_TIFF: tuple[dict[str, Any], ...] = (
    {"compression": "tiff_lzw"},
    {"compression": "tiff_deflate"},
    {"compression": "jpeg"},
    {"tiled": True},
)


class Images(Kind):
    name = "images"
    share = 0.28

    def write_seeds(self) -> None:
        rng = np.random.default_rng(0)
        for suffix, modes in _MODES.items():
            for mode in modes:
                _picture(rng, mode).save(self.seeds / f"{mode.replace(';', '')}.{suffix}")
        rgb = _picture(rng, "RGB")
        for number, options in enumerate(_TIFF):
            rgb.save(self.seeds / f"options{number}.tif", **options)
        for orientation in (3, 6, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            for suffix in ("jpg", "png", "webp", "tif"):
                rgb.save(self.seeds / f"turned{orientation}.{suffix}", exif=exif)
        rgb.save(self.seeds / "progressive.jpg", progressive=True)
        rgb.save(self.seeds / "frames.gif", save_all=True, append_images=[_picture(rng, "RGB")])
        rgb.save(self.seeds / "frames.png", save_all=True, append_images=[_picture(rng, "RGB")])

    def open(self) -> None:
        import kvtool.datasets.images
        import kvtool.datasets.masks  # noqa: F401

        self.pictures = sorted(self.seeds.iterdir())

    def attempt(self, rng: random.Random, folder: Path) -> None:
        seed = rng.choice(self.pictures)
        path = folder / (
            seed.name
            if rng.random() < 0.9
            else f"{seed.stem}.{rng.choice(('png', 'jpg', 'txt', 'mpo'))}"
        )
        path.write_bytes(hostile_bytes(rng, seed.read_bytes()))
        if rng.random() < 0.03:
            odd_file(rng, path)
        elif rng.random() < 0.02:
            write(path, postscript(rng))
        _as_picture(path)
        _as_mask(path)


def postscript(rng: random.Random) -> bytes:
    """A program that Pillow would hand to an interpreter."""
    box = b"%%BoundingBox: 0 0 " + rng.choice((b"40 30", b"100000 100000"))
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n"
        + box
        + b"\n%%EndComments\n(marker) (w) file closefile\nshowpage\n%%EOF\n"
    )


def _picture(rng: Any, mode: str) -> Image.Image:
    """24 x 18 random pixels of a mode."""
    rgb = Image.fromarray(rng.integers(0, 256, (18, 24, 3), dtype=np.uint8))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (18, 24), dtype=np.uint16))
    if mode == "RGBA":
        return Image.fromarray(rng.integers(0, 256, (18, 24, 4), dtype=np.uint8))
    return (
        rgb.convert(mode)
        if mode != "F"
        else Image.fromarray(rng.normal(size=(18, 24)).astype(np.float32))
    )


def _as_picture(path: Path) -> None:
    from kvtool.datasets.base import ImageRef
    from kvtool.datasets.images import load_image, read_size

    ref = ImageRef(path.stem, path)
    size = refused(read_size, ref)
    picture = refused(load_image, ref)
    if picture is None:
        return
    if picture.mode != "RGB":
        raise Wrong(f"load_image: expected RGB, found {picture.mode}")
    if size is None or size != picture.size:
        raise Wrong(f"read_size says {size}, load_image {picture.size}")
    expected = _plain(path)
    if expected is not None and not np.array_equal(np.asarray(picture), expected):
        raise Wrong(
            f"load_image: pixels are not Pillow's, sizes {picture.size} and {expected.shape}"
        )


def _plain(path: Path) -> Any:
    """(height, width, 3) of Pillow alone, where the way from its mode to RGB is not a choice; None
    elsewhere.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                image.load()
                if image.mode not in PLAIN_MODES or image.has_transparency_data:
                    return None
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except Exception as error:  # noqa: BLE001
            if isinstance(error, OSError) and "truncated" in str(error):
                raise Wrong(f"load_image took a truncated picture: {error}") from None
            return None  # an orientation that Pillow's own reader trips over


def _as_mask(path: Path) -> None:
    from kvtool.datasets.masks import read_binary, read_label_map, read_rgb

    labels = refused(read_label_map, path)
    binary = refused(read_binary, path)
    colours = refused(read_rgb, path)
    if labels is not None:
        with Image.open(path) as image:
            expected = np.asarray(image)
        if labels.ndim != 2 or labels.dtype != np.uint8 or not np.array_equal(labels, expected):
            raise Wrong(
                f"read_label_map: {labels.shape} {labels.dtype} are not the file's {expected.shape}"
            )
    if binary is not None and (binary.ndim != 2 or binary.max(initial=0) > 1):
        raise Wrong(f"read_binary: expected a map of 0 and 1, found {binary.shape}")
    if colours is not None and (colours.ndim != 3 or colours.shape[2] != 3):
        raise Wrong(f"read_rgb: expected three channels, found {colours.shape}")

"""Any image file to 8-bit RGB, upright, or one ImageError line that names the file and the cause.

Rules: EXIF orientation is applied; transparency is laid on white; 16-bit values keep their high
byte; 32-bit integers and floats, which have no agreed white, are scaled from their own least to
their own greatest value; CMYK goes through Pillow's plain conversion (no color profile); of an
animation the first frame counts. What may be decoded at all, and how much memory it may take, is
the business of raster.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kvtool import digests
from kvtool.datasets.base import ImageRef
from kvtool.datasets.raster import (
    MAX_FILE_BYTES,
    TRANSPOSE,
    RasterError,
    load_raster,
    one_line,
    open_raster,
    orientation,
    turn,
)
from kvtool.errors import ImageError

_BAND_PIXELS = 1 << 20
"""Pixels that are turned into RGB at a time, so that no intermediate is as large as the picture."""


def load_image(ref: ImageRef) -> Image.Image:
    """Return the picture as upright 8-bit RGB. Raises ImageError."""
    return decode(ref, read_bytes(ref)[0])


def read_bytes(ref: ImageRef) -> tuple[bytes, digests.Stamp | None]:
    """Return the bytes of the picture's file, read once, and the stamp that stands for them.

    Raises ImageError.

    The stamp is that of the file, or of the container that the picture lies in; None for a picture
    with neither.
    """
    if ref.read is not None:
        stamp = None if ref.container is None else digests.quick_look(ref.container)
        return ref.read(), stamp
    if ref.path is None:
        raise ImageError(f"{label(ref)}: expected a path or a reader, found neither")
    try:
        return digests.read_stamped(ref.path, MAX_FILE_BYTES)
    except FileNotFoundError:
        raise ImageError(f"{label(ref)}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageError(f"{label(ref)}: cannot be read: {one_line(error)}") from None


def decode(ref: ImageRef, data: bytes) -> Image.Image:
    """Return the bytes of a picture's file as upright 8-bit RGB. Raises ImageError."""
    try:
        image = open_raster(data, label(ref))
        with turn(image, data):
            load_raster(image, data)
            # The orientation is read before the conversion, which drops the EXIF block.
            side = TRANSPOSE.get(orientation(image))
            image = to_rgb(image)  # the decoded picture is let go before another is made
            return image if side is None else image.transpose(side)
    except RasterError as error:
        raise ImageError(f"{label(ref)}: {error}") from None
    except MemoryError:
        raise ImageError(f"{label(ref)}: not enough memory to decode it; shrink it first") from None


def read_size(ref: ImageRef) -> tuple[int, int]:
    """Return (width, height) of the upright picture, from the header alone where the format allows.

    Raises ImageError.
    """
    data, _ = read_bytes(ref)
    try:
        image = open_raster(data, label(ref))
        # Asking for the orientation of such a file decodes it, so that its size is checked first.
        if image.format == "PNG" and "exif" not in image.info:
            load_raster(image, data)  # PNG may carry its orientation behind the pixels
    except RasterError as error:
        raise ImageError(f"{label(ref)}: {error}") from None
    width, height = image.size
    if image.format == "TIFF":  # Pillow turns these itself, and says so in the size
        return width, height
    # Orientations from 5 on swap the sides.
    return (height, width) if orientation(image) >= 5 else (width, height)


def picture_file(ref: ImageRef) -> Path | None:
    """Return the file whose stamp stands for the picture: its own, or the container that it lies
    in.
    """
    return ref.container if ref.read is not None else ref.path


def digest_pictures(refs: Sequence[ImageRef]) -> dict[str, str]:
    """Digest of each picture's bytes by id, an empty string where it cannot be read.

    What is remembered and unchanged is not read again: plain files by their stamp, pictures inside
    another file by that file's.
    """
    # Files are digested together, pictures inside other files by themselves.
    plain = {ref.id: ref.path for ref in refs if ref.read is None and ref.path is not None}
    by_path = digests.digest_files(plain.values())
    inner = _digest_inner([ref for ref in refs if ref.read is not None])
    return {
        ref.id: by_path[plain[ref.id]] if ref.id in plain else inner.get(ref.id, "") for ref in refs
    }


def _digest_inner(refs: Sequence[ImageRef]) -> dict[str, str]:
    """Digest by id of pictures that lie inside other files."""
    containers = {ref.container for ref in refs if ref.container is not None}
    # The stamp of the container vouches for all pictures that lie in it.
    stamps = {container: digests.quick_look(container) for container in containers}
    remembered_names = {
        ref.id: _inner_place(ref.container, ref.id) for ref in refs if ref.container is not None
    }
    remembered = digests.recall(remembered_names.values())
    values: dict[str, str] = {}
    fresh: dict[str | os.PathLike[str], tuple[str, digests.Stamp]] = {}
    for ref in refs:
        name = remembered_names.get(ref.id)
        entry = remembered.get(name) if name is not None else None
        # A digest that was remembered counts while its container has the same stamp.
        if entry is not None and ref.container is not None and entry[1] == stamps[ref.container]:
            values[ref.id] = entry[0]
            continue
        try:
            data, stamp = read_bytes(ref)
        except ImageError:
            continue
        values[ref.id] = digests.digest_bytes(data)
        if name is not None and stamp is not None:
            fresh[name] = values[ref.id], stamp
    digests.remember(fresh)
    return values


def _inner_place(container: Path, image_id: str) -> Path:
    """Return the name under which the digest of a picture inside another file is remembered."""
    return Path(f"{container}#{digests.digest_texts([image_id])}")


def label(ref: ImageRef) -> str:
    """Return how errors name an image, on one line."""
    return (
        str(ref.path if ref.path is not None else ref.id)
        .encode("unicode_escape", "replace")
        .decode()
    )


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the decoded picture as RGB. Raises RasterError."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rgb = Image.new("RGB", image.size)
    deep = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format == "PPM"
    )  # 0..65535 both
    try:
        # One scale for the whole picture, or its bands would differ in brightness.
        scale = _scale(image) if image.mode in ("I", "F") and not deep else None
        for box in _bands(image.size):
            rgb.paste(_band_to_rgb(image.crop(box), deep, scale), box)
    except Exception as error:  # noqa: BLE001  Pillow's conversions raise several kinds
        raise RasterError(f"cannot turn mode {image.mode} into RGB: {one_line(error)}") from None
    return rgb


def _band_to_rgb(band: Image.Image, deep: bool, scale: tuple[float, float] | None) -> Image.Image:
    """Return a band of a picture as RGB; `deep` for 16-bit values, `scale` for those that have no
    agreed white.
    """
    # The high byte of 16 bits, computed in wide integers, whatever byte order the mode has.
    if deep:
        return _grey((np.asarray(band).astype(np.int64) >> 8).astype(np.uint8))
    if scale is not None:
        return _grey(_stretch(np.asarray(band, dtype=np.float64), *scale))
    if band.has_transparency_data:
        # Transparent pixels have a color, too, which must not show.
        rgba = band.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return band.convert("RGB")


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of whole rows that cover a picture from its top."""
    width, height = size
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _grey(values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _scale(image: Image.Image) -> tuple[float, float]:
    """Return the least and the greatest finite value of a picture; (0, 0) where it has none."""
    low, high = np.inf, -np.inf
    for box in _bands(image.size):
        values = np.asarray(image.crop(box), dtype=np.float64)
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _stretch(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], low: float, high: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """`low` to 0, `high` to 255; a constant image becomes black, as do values that are not
    finite.
    """
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.where(np.isfinite(values), values, low) - low) / (high - low)
    return (scaled * 255).round().astype(np.uint8)

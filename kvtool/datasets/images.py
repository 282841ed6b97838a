"""Any image file to 8-bit RGB, upright, or one ImageError line that names the file and the cause.

Rules: EXIF orientation is applied; transparency is laid on white; 16-bit values keep their high byte; 32-bit
integers and floats, which have no agreed white, are scaled from their own least to their own greatest value; CMYK
goes through Pillow's plain conversion (no colour profile); of an animation the first frame counts. Images of more
than MAX_PIXELS are refused before anything is decoded.
"""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kvtool import digests
from kvtool.datasets.base import ImageRef
from kvtool.errors import ImageError

MAX_PIXELS = 178_956_970
"""About 179 megapixels (half a gigabyte as RGB), the point at which Pillow itself speaks of a bomb."""

MAX_FILE_BYTES = 1 << 30

# Raster formats only: Pillow would hand PostScript to an external program.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")

_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, EOFError,
    MemoryError, struct.error, zlib.error,
)  # fmt: skip

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112

# Pillow warns about large images and odd headers; Python's warning filters belong to the whole process, so only
# one thread at a time may swap them. Decoding, the slow part, stays outside.
_header_lock = threading.Lock()


def load_image(ref: ImageRef) -> Image.Image:
    """The picture as upright 8-bit RGB. Raises ImageError."""
    return decode(ref, read_bytes(ref)[0])


def read_bytes(ref: ImageRef) -> tuple[bytes, digests.Stamp | None]:
    """The bytes of the picture's file, read once, and the stamp that stands for them. Raises ImageError.

    The stamp is that of the file, or of the container that the picture lies in; None for a picture with neither.
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
        raise ImageError(f"{label(ref)}: cannot be read: {_said(error)}") from None


def decode(ref: ImageRef, data: bytes) -> Image.Image:
    """The bytes of a picture's file as upright 8-bit RGB. Raises ImageError."""
    image = _open(ref, data)
    _decode(ref, image)
    orientation = _orientation(image)
    try:
        rgb = _to_rgb(image)
        return rgb.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else rgb
    except Exception as error:  # noqa: BLE001  a decoder may raise anything
        raise ImageError(f"{label(ref)}: cannot turn mode {image.mode} into RGB: {_said(error)}") from None


def read_size(ref: ImageRef) -> tuple[int, int]:
    """(width, height) of the upright picture, from the header alone where the format allows. Raises ImageError."""
    image = _open(ref, read_bytes(ref)[0])
    if image.format == "PNG" and "exif" not in image.info:
        _decode(ref, image)  # PNG may carry its orientation behind the pixels
    width, height = image.size
    if image.format == "TIFF":  # Pillow turns these itself, and says so in the size
        return width, height
    return (height, width) if _orientation(image) >= 5 else (width, height)


def picture_file(ref: ImageRef) -> Path | None:
    """The file whose stamp stands for the picture: its own, or the container that it lies in."""
    return ref.container if ref.read is not None else ref.path


def digest_pictures(refs: Sequence[ImageRef]) -> dict[str, str]:
    """Digest of each picture's bytes by id, an empty string where it cannot be read.

    What is remembered and unchanged is not read again: plain files by their stamp, pictures inside another file
    by that file's.
    """
    plain = {ref.id: ref.path for ref in refs if ref.read is None and ref.path is not None}
    by_path = digests.digest_files(plain.values())
    inner = _digest_inner([ref for ref in refs if ref.read is not None])
    return {ref.id: by_path[plain[ref.id]] if ref.id in plain else inner.get(ref.id, "") for ref in refs}


def _digest_inner(refs: Sequence[ImageRef]) -> dict[str, str]:
    """Digest by id of pictures that lie inside other files."""
    containers = {ref.container for ref in refs if ref.container is not None}
    stamps = {container: digests.quick_look(container) for container in containers}
    places = {ref.id: _inner_place(ref.container, ref.id) for ref in refs if ref.container is not None}
    remembered = digests.recall(places.values())
    values: dict[str, str] = {}
    fresh: dict[str | os.PathLike[str], tuple[str, digests.Stamp]] = {}
    for ref in refs:
        place = places.get(ref.id)
        known = remembered.get(place) if place is not None else None
        if known is not None and ref.container is not None and known[1] == stamps[ref.container]:
            values[ref.id] = known[0]
            continue
        try:
            data, stamp = read_bytes(ref)
        except ImageError:
            continue
        values[ref.id] = digests.digest_bytes(data)
        if place is not None and stamp is not None:
            fresh[place] = values[ref.id], stamp
    digests.remember(fresh)
    return values


def _inner_place(container: Path, image_id: str) -> Path:
    """The name under which the digest of a picture inside another file is remembered."""
    return Path(f"{container}#{digests.digest_texts([image_id])}")


def label(ref: ImageRef) -> str:
    """How errors name an image, on one line."""
    return str(ref.path if ref.path is not None else ref.id).encode("unicode_escape", "replace").decode()


def _open(ref: ImageRef, data: bytes) -> Image.Image:
    """Read the header only, and refuse what would be too large decoded."""
    if not data:
        raise ImageError(f"{label(ref)}: the file is empty (0 bytes); replace it")
    try:
        with _header_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()
            image = Image.open(BytesIO(data), formats=[f for f in _FORMATS if f in Image.OPEN])
    except Image.DecompressionBombError:
        raise ImageError(f"{label(ref)}: {_too_large('the image')}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{label(ref)}: not an image, or of a format kvtool does not read; remove it") from None
    except _DECODE_ERRORS as error:
        raise ImageError(f"{label(ref)}: broken or truncated image header: {_said(error)}; replace the file") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{label(ref)}: {_too_large(f'{width} x {height} pixels')}")
    return image


def _too_large(what: str) -> str:
    return f"{what}: more than the limit of {MAX_PIXELS / 1e6:.0f} megapixels (a decompression bomb?); shrink it first"


def _decode(ref: ImageRef, image: Image.Image) -> None:
    try:
        image.load()
    except _DECODE_ERRORS as error:
        raise ImageError(
            f"{label(ref)}: broken or truncated {image.format}: {_said(error)}; replace the file"
        ) from None


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; a damaged EXIF block counts as none."""
    try:
        with _header_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except _DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # 0..65535 both
        return _grey((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return _grey(_stretch(np.asarray(image, dtype=np.float64)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _stretch(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Least value to 0, greatest to 255; a constant image becomes black, as do values that are not finite."""
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    scaled = (np.where(finite, values, low) - low) / (high - low) if high > low else np.zeros_like(values)
    return (scaled * 255).round().astype(np.uint8)


def _said(error: BaseException) -> str:
    """An exception's message on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__

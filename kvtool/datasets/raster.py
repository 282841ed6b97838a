"""A picture file's bytes through Pillow: formats by a list, memory known before it is taken, any
failure one line.

Pictures and masks come this way alike. What a file claims is checked before anything of its size is
allocated: pixels, then pixels x the bytes that its format's decoder and the conversion to RGB take
for each.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from kvtool.datasets.formats import READ_FORMATS, refusal

MAX_PIXELS = 178_956_970
"""About 179 megapixels (half a gigabyte as RGB), the point at which Pillow itself speaks of a bomb.
"""

MAX_FILE_BYTES = 1 << 30
MAX_DECODED_BYTES = 1_200_000_000
"""Memory that decoding one picture and turning it into RGB may take."""

_LARGE_BYTES = 200_000_000
"""Pictures that take more than this are decoded one at a time."""

TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the picture upright."""

_EXIF_ORIENTATION = 0x0112
_TILE_WIDTH, _TILE_HEIGHT = 322, 323

_RGB_BYTES = 4
"""Pillow keeps a pixel of RGB, RGBA, CMYK, I and F in four bytes."""

# Bytes a pixel that a decoder takes beside Pillow's own copy, measured as peaks on pictures of 32
# megapixels.
_DECODER_BYTES = {"WEBP": 12, "AVIF": 12}
_JPEG_SCAN = b"\xff\xda"
_JPEG_2000_SIZE = re.compile(rb"\xff\x4f\xff\x51.{4}(.{4})(.{4}).{24}(..)", re.DOTALL)
"""The marker that carries width, height and the number of components."""
_JPEG_2000_BYTES = 6
"""Bytes a component: 32-bit planes, and a tile's own 8 or 16 bits."""

# Pillow warns about large images and odd headers; Python's warning filters belong to the whole
# process, so only one thread at a time may swap them. Decoding, the slow part, stays outside.
_header_lock = threading.Lock()
_large_lock = threading.Lock()


class RasterError(Exception):
    """Why a file's bytes are no usable picture, on one line and without the file's name."""


def open_raster(data: bytes, name: str) -> Image.Image:
    """Return the picture with its header read and its size checked.

    Raises RasterError; `name` is the file's.
    """
    # Known signatures first: they say more than that the file is no image.
    if reason := refusal(data, name):
        raise RasterError(reason)
    try:
        with _quiet():
            Image.init()
            # Only formats of the list, since Pillow would hand some others to programs.
            image = Image.open(
                BytesIO(data), formats=[name for name in READ_FORMATS if name in Image.OPEN]
            )
    except Image.DecompressionBombError:
        raise RasterError(_too_large("the image")) from None
    except UnidentifiedImageError:
        raise RasterError(
            "not an image, or of a format kvtool does not read; replace or remove it"
        ) from None
    except Exception as error:  # noqa: BLE001  a plugin may raise anything
        raise RasterError(
            f"broken or truncated image header: {one_line(error)}; replace the file"
        ) from None
    # A header may claim any size: it is checked before anything of that size is made.
    _check_pixels(*image.size)
    _check_inside(image, data)
    return image


def load_raster(image: Image.Image, data: bytes) -> None:
    """Decode the pixels of `open_raster(data, ...)`.

    Raises RasterError, where it can before it takes too much.
    """
    _check_bytes(image, image.size, _needed_bytes(image, data))
    try:
        image.load()
    except Exception as error:  # noqa: BLE001  a decoder may raise anything
        raise RasterError(
            f"broken or truncated {image.format}: {one_line(error)}; replace the file"
        ) from None
    _check_bytes(
        image, image.size, _needed_bytes(image, data)
    )  # the pixels may be followed by an orientation, and turning takes a copy


@contextmanager
def turn(image: Image.Image, data: bytes) -> Iterator[None]:
    """Wait until no other large picture is decoded, where this one is large."""
    with _large_lock if _needed_bytes(image, data) > _LARGE_BYTES else nullcontext():
        yield


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; a damaged EXIF block counts as none."""
    try:
        with _quiet():
            value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  whatever a damaged block makes of the parser
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def one_line(error: BaseException) -> str:
    """Return an exception's message on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    with _header_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise RasterError(_too_large(f"{width} x {height} pixels"))


def _check_inside(image: Image.Image, data: bytes) -> None:
    """Sizes that decoders allocate by, and that need not be those of the header."""
    if image.format == "TIFF":
        # Decoders of TIFF take memory by the tile, which may be larger than the picture.
        tags = getattr(image, "tag_v2", {})
        sides = [tags.get(tag, 1) for tag in (_TILE_WIDTH, _TILE_HEIGHT)]
        if not all(isinstance(side, int) for side in sides):
            raise RasterError(
                "broken TIFF: expected one tile size, found several; replace the file"
            )
        _check_pixels(*sides)
    elif image.format == "JPEG2000":
        # The size in the codestream is what the decoder takes memory by, not that of the container.
        for match in _JPEG_2000_SIZE.finditer(data):
            width, height, components = map(int.from_bytes, match.groups())
            _check_pixels(width, height)
            _check_bytes(image, (width, height), width * height * components * _JPEG_2000_BYTES)


def _check_bytes(image: Image.Image, size: tuple[int, int], needed: int) -> None:
    if needed > MAX_DECODED_BYTES:
        width, height = size
        raise RasterError(
            f"{width} x {height} pixels of {image.format} {image.mode} take {needed / 1e9:.1f} GB "
            "to decode, more "
            f"than the limit of {MAX_DECODED_BYTES / 1e9:.1f} GB; shrink it first"
        )


def _needed_bytes(image: Image.Image, data: bytes) -> int:
    """Memory that decoding and the conversion to upright RGB take at their peak."""
    bands = len(image.getbands())
    stored = (
        1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else _RGB_BYTES
    )
    decoder = _DECODER_BYTES.get(image.format or "", 0)
    if image.format == "JPEG2000":
        decoder = _JPEG_2000_BYTES * bands
    elif image.format in ("JPEG", "MPO") and data.count(_JPEG_SCAN) > 1:
        decoder = 2 * bands  # coefficients of all scans are held
    elif image.format == "TIFF":
        decoder = stored  # a strip may be the whole
    converted = 0 if image.mode == "RGB" else _RGB_BYTES
    # PNG may carry its orientation behind the pixels: asking for it would decode them.
    may_turn = image.format != "PNG" or "exif" in image.info
    turned = _RGB_BYTES if may_turn and orientation(image) in TRANSPOSE else 0
    # The decoder's peak and that of conversion and turning come one after the other.
    width, height = image.size
    return width * height * (stored + max(decoder, converted + turned))


def _too_large(what: str) -> str:
    return (
        f"{what}: more than the limit of {MAX_PIXELS / 1e6:.0f} megapixels "
        "(a decompression bomb?); shrink it first"
    )

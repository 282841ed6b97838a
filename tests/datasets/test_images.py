"""Every odd picture either loads as upright RGB or ends in one ImageError line with file and
cause.
"""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.datasets.base import ImageRef
from kvtool.datasets.images import load_image, read_size
from kvtool.datasets.raster import MAX_PIXELS
from kvtool.errors import ImageError


def ref(path: Path) -> ImageRef:
    return ImageRef(path.name, path)


def failure(path: Path) -> str:
    """The one line of the error, checked to be one and to name the file."""
    with pytest.raises(ImageError) as caught:
        load_image(ref(path))
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def png(width: int, height: int, *chunks: bytes, bits: int = 1) -> bytes:
    """A PNG that claims any size without holding the pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(chunks)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """Red on the left, blue on the right, green below: every rotation shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    pixels[height * 3 // 4 :, :] = (0, 255, 0)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = photo()
    inverse = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    stored = upright
    for step in inverse:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("png", "tif", "jpg"):
        path = tmp_path / f"turned.{suffix}"
        stored.save(path, exif=exif, quality=100, subsampling=0)
        loaded = load_image(ref(path))
        assert loaded.size == read_size(ref(path)) == (64, 48)
        difference = np.asarray(loaded).astype(int) - np.asarray(upright).astype(int)
        assert np.abs(difference).mean() < (8 if suffix == "jpg" else 1e-9)


def test_damaged_exif_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "odd.jpg"
    photo().save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert load_image(ref(path)).size == (64, 48)
    assert read_size(ref(path)) == (64, 48)


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    photo().convert("CMYK").save(path, quality=100, subsampling=0)
    pixels = np.asarray(load_image(ref(path))).astype(int)
    assert pixels.shape == (48, 64, 3)
    assert pixels[5, 5, 0] > 200 > 60 > pixels[5, 5, 2]
    assert pixels[5, 60, 2] > 200 > 60 > pixels[5, 60, 0]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, name: str) -> None:
    ramp = np.linspace(0, 65535, 256 * 4).astype(np.uint16).reshape(4, 256)
    path = tmp_path / name
    if name.endswith("pgm"):
        path.write_bytes(b"P5 256 4 65535\n" + ramp.astype(">u2").tobytes())
    else:
        Image.fromarray(ramp).save(path)
    pixels = np.asarray(load_image(ref(path)))
    assert np.array_equal(pixels[..., 0], ramp >> 8)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_16_bit_rgb_png_keeps_the_high_byte(tmp_path: Path) -> None:
    values = np.arange(3 * 5 * 3, dtype=np.uint16).reshape(3, 5, 3) * 1400
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    path = tmp_path / "deep_rgb.png"
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 3, 16, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert np.array_equal(np.asarray(load_image(ref(path))), values >> 8)


def test_32_bit_values_are_stretched_and_nan_is_black(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    values = np.array([[0.25, 0.5], [0.75, np.nan]], np.float32)
    Image.fromarray(values).save(path)
    assert np.asarray(load_image(ref(path)))[..., 0].tolist() == [[0, 128], [255, 0]]


def test_palette_grey_and_one_bit(tmp_path: Path) -> None:
    for mode in ("P", "L", "1"):
        path = tmp_path / f"{mode}.png"
        stored = photo().convert(mode)
        stored.save(path)
        loaded = load_image(ref(path))
        assert loaded.mode == "RGB"
        assert np.array_equal(np.asarray(loaded), np.asarray(stored.convert("RGB")))


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[0, 1] = (255, 0, 0, 0)
    rgba[1, 0] = (0, 0, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    pixels = np.asarray(load_image(ref(tmp_path / "alpha.png"))).tolist()
    assert pixels[0] == [[10, 20, 30], [255, 255, 255]]
    assert pixels[1] == [[127, 127, 127], [255, 255, 255]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 8, 7, 1, 2, 3])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "keyed.png", transparency=b"\0\xff")  # alpha of each palette entry
    assert np.asarray(load_image(ref(tmp_path / "keyed.png"))).tolist() == [
        [[255, 255, 255], [1, 2, 3]]
    ]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert np.asarray(load_image(ref(path)))[0, 0].tolist() == [255, 0, 0]


def test_one_pixel_and_very_wide(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (3, 4, 5)).save(tmp_path / "dot.png")
    assert load_image(ref(tmp_path / "dot.png")).getpixel((0, 0)) == (3, 4, 5)
    Image.new("RGB", (20_000, 30), (3, 4, 5)).save(tmp_path / "wide.jpg")
    assert load_image(ref(tmp_path / "wide.jpg")).size == (20_000, 30)


def test_large_but_legitimate_is_silent(tmp_path: Path) -> None:
    """Between Pillow's warning (89 megapixels) and the limit; warnings are errors here."""
    exif = b"\0\0\0\x1aeXIfMM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    chunk = exif + struct.pack(">I", zlib.crc32(exif[4:]))
    path = tmp_path / "poster.png"
    path.write_bytes(png(20_000, 8_900, chunk))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert read_size(ref(path)) == (8_900, 20_000)
    assert seen == []


@pytest.mark.parametrize("size", [(60_000, 60_000), (MAX_PIXELS + 1, 1), (20_000, 8_950)])
def test_bomb_is_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(*size))
    assert "179 megapixels" in failure(path)
    with pytest.raises(ImageError, match=r"megapixels"):
        read_size(ref(path))


def test_broken_files(tmp_path: Path) -> None:
    photo(640, 480).save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    assert "truncated" in failure(tmp_path / "cut.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert "empty (0 bytes)" in failure(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("not a picture")
    assert "not an image" in failure(tmp_path / "text.jpg")
    (tmp_path / "page.eps").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    )
    assert "PostScript, which kvtool does not read" in failure(tmp_path / "page.eps")
    assert "no such file" in failure(tmp_path / "absent.png")
    (tmp_path / "folder.png").mkdir()
    assert "not a regular file" in failure(tmp_path / "folder.png")
    (tmp_path / "short.png").write_bytes(png(40, 40))
    assert "broken or truncated PNG" in failure(tmp_path / "short.png")


@pytest.mark.slow
def test_every_truncation_is_an_image_error(tmp_path: Path) -> None:
    """Wherever a file is cut, it loads or raises ImageError; nothing else comes out."""
    for suffix in ("png", "gif", "tif", "webp", "bmp", "jpg"):
        path = tmp_path / f"cut.{suffix}"
        photo(16, 12).save(path)
        content = path.read_bytes()
        messages = []
        for end in range(1, len(content), max(1, len(content) // 60)):
            path.write_bytes(content[:end])
            try:
                load_image(ref(path))
            except ImageError as error:
                messages.append(str(error))
        assert len(messages) > 20
        assert not any("\n" in message for message in messages)


def test_newline_in_a_name_stays_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.jpg"
    path.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        load_image(ref(path))
    assert "\n" not in str(caught.value)


def test_embedded_bytes_and_threads(tmp_path: Path) -> None:
    buffer = BytesIO()
    photo().save(buffer, "PNG")
    inside = ImageRef("parquet/7", read=buffer.getvalue)
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff junk")
    outcomes: list[bool] = []

    def work() -> None:
        for _ in range(20):
            outcomes.append(load_image(inside).size == read_size(inside) == (64, 48))
            with pytest.raises(ImageError):
                load_image(ref(tmp_path / "bad.jpg"))

    filters = list(warnings.filters)
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * 120
    assert list(warnings.filters) == filters


def test_embedded_image_is_named_by_id() -> None:
    with pytest.raises(ImageError, match=r"val_Counting_3/image_1"):
        load_image(ImageRef("val_Counting_3/image_1", read=lambda: b"nothing"))

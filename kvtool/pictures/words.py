"""Pictures with a word on every patch: what is read there."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from kvtool.pictures.contact_sheet import ContactSheet, Tile, font, shorten
from kvtool.result import Row
from kvtool.types import GridSpan, Sample

CELL_PX = (62, 34)
"""The least room of a word."""
WORD_PX = 14
VEIL = 0.45
"""How much white lies over the picture."""
LIKELY = (150, 0, 60)
UNLIKELY = (120, 120, 120)
"""Colors of a word of probability 1, and of one of 0."""
HALO = (255, 255, 255)
COLUMNS = 2


def draw_words(
    picture: Image.Image | None, sample: Sample, items: Sequence[Row], title: str
) -> Image.Image:
    """Draw a picture a layer, with the likeliest word on each patch; the likelier, the redder.

    Args:
        picture: the image; without it the words stand on white.
        sample: the image's record.
        items: for each layer `layer`, and `words` and `probabilities` of the base grid, row by row.
        title: what stands above.
    """
    tiles = [
        Tile(
            _tile(picture, sample, item["words"], item["probabilities"]),
            (f"layer {item['layer']}",),
        )
        for item in items
    ]
    return ContactSheet(tiles, COLUMNS, title).picture


def _tile(
    picture: Image.Image | None,
    sample: Sample,
    words: Sequence[str],
    probabilities: Sequence[float | None],
) -> Image.Image:
    """Return the picture of one layer."""
    span = sample.base("projected")
    canvas, scale = _canvas(picture, sample, span)
    pen = ImageDraw.Draw(canvas)
    face = font(WORD_PX)
    _, cols = span.grid
    # The width of a patch as drawn, to which words are cut.
    width_px = (span.cover_xyxy_px[2] - span.cover_xyxy_px[0]) / cols * scale
    for cell, (word, probability) in enumerate(zip(words, probabilities, strict=True)):
        x, y = (scale * center for center in span.centre_px(*divmod(cell, cols)))
        # Where the model pads a picture, patches show nothing of it.
        if not word or not (0 <= x < canvas.width and 0 <= y < canvas.height):
            continue
        text = shorten(word, face, width_px)
        color = _color(probability or 0.0)
        pen.text((x, y), text, fill=color, font=face, anchor="mm", stroke_width=2, stroke_fill=HALO)
    return canvas


def _canvas(
    picture: Image.Image | None, sample: Sample, span: GridSpan
) -> tuple[Image.Image, float]:
    """Return the veiled picture, large enough for a word a patch, and its scale."""
    x0, y0, x1, y1 = span.cover_xyxy_px
    rows, cols = span.grid
    # As large as the tighter side of a patch needs for a word.
    scale = max(CELL_PX[0] * cols / (x1 - x0), CELL_PX[1] * rows / (y1 - y0))
    size = tuple(round(side * scale) for side in sample.image_wh_px)
    white = Image.new("RGB", size, HALO)  # type: ignore[arg-type]
    if picture is None:
        return white, scale
    enlarged = picture.convert("RGB").resize(white.size, Image.Resampling.BICUBIC)
    return Image.blend(enlarged, white, VEIL), scale


def _color(probability: float) -> tuple[int, ...]:
    """Return the color of a word of a probability."""
    ends = zip(UNLIKELY, LIKELY, strict=True)
    return tuple(round(start + probability * (stop - start)) for start, stop in ends)

"""Pictures of a run's images, and pieces of them, drawn anew: no file is handed on as it is."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from io import BytesIO
from threading import Lock

from PIL import Image

from kvtool.datasets.images import load_image
from kvtool.errors import ImageError, KvtoolError, UsageError
from kvtool.viewer.replies import Reply, ViewRequest
from kvtool.viewer.viewed_run import ViewedRun

LONGEST_PX = 1024
"""The longer side of a picture at most; screens show no more of it."""
CROP_PX = 160
"""The longer side of a piece."""
QUALITY = 88
LOSSLESS_PIXELS = 256 * 256
"""Small pictures keep every pixel."""
KEPT_PICTURES = 8
"""Decoded pictures that are held, since pieces of one follow each other."""


@dataclass
class Pictures:
    """Draws pictures of viewed runs, and holds the last ones."""

    recent: OrderedDict[tuple[int, str], Image.Image] = field(default_factory=OrderedDict)
    lock: Lock = field(default_factory=Lock)

    def load(self, viewed: ViewedRun, image: str) -> Image.Image:
        """Return an image's picture. Raises KvtoolError where it is gone."""
        key = (id(viewed), viewed.sample(image).id)
        with self.lock:
            picture = self.recent.get(key)
        if picture is None:
            # Pictures are decoded side by side, and nobody who reads vectors waits for them.
            picture = load_picture(viewed, image)
        # The pictures seen last stay in memory, up to a number.
        with self.lock:
            self.recent[key] = picture
            self.recent.move_to_end(key)
            while len(self.recent) > KEPT_PICTURES:
                self.recent.popitem(last=False)
        return picture

    def whole(self, viewed: ViewedRun, request: ViewRequest) -> Reply:
        """Return a picture of `side` pixels at most, or a note that says why there is none."""
        image, side = request.text("image"), request.number("side", LONGEST_PX, LONGEST_PX)
        viewed.sample(image)
        try:
            picture = self.load(viewed, image)
        except KvtoolError as error:
            return Reply.of_json({"note": str(error)})
        return _drawn(picture, max(1, side), _name(viewed, request))

    def piece(self, viewed: ViewedRun, request: ViewRequest) -> Reply:
        """Return the piece of a picture in a box "x0,y0,x1,y1", or a note that says why there is
        none.
        """
        box, image = _box(request.text("box")), request.text("image")
        viewed.sample(image)
        # A data set may be gone while the vectors are there: the viewer goes on without pictures.
        try:
            picture = self.load(viewed, image)
        except KvtoolError as error:
            return Reply.of_json({"note": str(error)})
        piece = picture.crop(_inside(box, picture.size))
        enlarged = max(1, CROP_PX // max(piece.size))
        size = piece.width * enlarged, piece.height * enlarged
        # Patches stay squares: a small piece is enlarged without smoothing.
        piece = piece.resize(size, Image.Resampling.NEAREST)
        return _drawn(piece, CROP_PX, _name(viewed, request))


def load_picture(viewed: ViewedRun, image: str) -> Image.Image:
    """Return an image's picture from its data set. Raises KvtoolError where it is gone."""
    ref = viewed.refs.get(image)
    if ref is None:
        dataset = viewed.run.config.dataset
        raise ImageError(f"{image}: expected its picture, found none in {dataset} any more")
    return load_image(ref)


def _name(viewed: ViewedRun, request: ViewRequest) -> str:
    """Return the name of a picture that a request names with its version."""
    return viewed.lasting_name(request, viewed.sample(request.text("image")))


def _drawn(picture: Image.Image, side_px: int, name: str) -> Reply:
    """Return a picture as an image file, no larger than a side."""
    scaled = picture.copy()
    scaled.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    file = BytesIO()
    if scaled.width * scaled.height <= LOSSLESS_PIXELS:
        scaled.save(file, format="PNG", compress_level=1)
        return Reply(file.getvalue(), "image/png", name)
    scaled.save(file, format="JPEG", quality=QUALITY)
    return Reply(file.getvalue(), "image/jpeg", name)


def _box(text: str) -> tuple[float, ...]:
    """Return the four numbers of a box. Raises UsageError."""
    try:
        box = tuple(float(part) for part in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise UsageError(f"box: expected x0,y0,x1,y1 in pixels, found {text[:40]!r}")
    return box


def _inside(box: tuple[float, ...], wh_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of a box inside a picture, one pixel at least."""
    width, height = wh_px
    left, top = (
        min(max(math.floor(start), 0), size - 1)
        for start, size in ((box[0], width), (box[1], height))
    )
    right, bottom = (
        min(max(math.ceil(stop), start + 1), size)
        for stop, start, size in ((box[2], left, width), (box[3], top, height))
    )
    return left, top, right, bottom

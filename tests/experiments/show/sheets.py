"""The block that is drawn, the size of its pictures, and what a file shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from kvtool.types import Block
from tests.support.keys import Array
from tests.support.units import PLANTED

BEST = Block("value", *PLANTED)
SIDE_PX = 160
"""Of the pictures on the sheets of these tests: 20 px a token."""


def read(path: Path) -> Array:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)

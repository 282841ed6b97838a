"""Pictures in memory, and the little of them that tests of what is given extract."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

SMALL: dict[str, Any] = {"kinds": ("value",), "layers": [0], "devices": ("cpu",)}


def pictures(count: int, first: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(first)
    return [
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)) for _ in range(count)
    ]

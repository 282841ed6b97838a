"""Small pictures for a page, as data URIs that are stored once."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image

QUALITY = 75


@dataclass(frozen=True)
class Drawn:
    """One picture: its name in Pictures.uris, its caption (also its alternative text), and its size
    in px."""

    picture: str
    caption: str
    width_px: int
    height_px: int


@dataclass
class Thumbnails:
    """WebP data URIs by name, equal ones once.

    What would exceed budget_bytes is refused and counted.
    """

    budget_bytes: int
    uris: dict[str, str] = field(default_factory=dict)
    n_refused: int = 0

    def add(self, image: Image.Image, caption: str) -> Drawn | None:
        """Add a picture; None where there is no room left."""
        file = BytesIO()
        image.save(file, format="WEBP", quality=QUALITY, method=4)
        # Named by its bytes: a picture that many blocks show is on the page once.
        name = hashlib.sha256(file.getvalue()).hexdigest()[:16]
        if name not in self.uris:
            uri = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
            if len(uri) > self.budget_bytes:
                self.n_refused += 1
                return None
            self.budget_bytes -= len(uri)
            self.uris[name] = uri
        return Drawn(name, caption, *image.size)

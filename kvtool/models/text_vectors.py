"""What a model leaves behind of texts that it reads without an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TextVectors:
    """Vectors of texts that were run without an image, in the run's precision.

    arrays: by name (text, layer, kv_head, dim): `value`, of each text's last token; `projected`
        (text, 1, 1, hidden), what image tokens of that kind are compared with: the input embedding
        of a decoder's last token, and `projected_mean`, the mean over the text's tokens; or the
        text in the space that an encoder's text tower and image side share.
    token_counts: of each text, in its first pattern.
    """

    arrays: dict[str, np.ndarray[Any, Any]]
    token_counts: list[int]

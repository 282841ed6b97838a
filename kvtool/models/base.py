"""What every model family provides: prepare an image, capture what the decoder holds of it, continue from it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

from kvtool.types import KeyPosition, Kind, ModelInfo, Sample, View

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Request:
    """Which arrays a run keeps. `layers` are the decoder's, 0-based; `vision_layers` index the tower's layer outputs,
    0-based too."""

    kinds: tuple[Kind, ...]
    layers: tuple[int, ...]
    vision_layers: tuple[int, ...]
    keys: KeyPosition = "post-rope"


@dataclass(frozen=True)
class Prepared:
    """One image made ready on the CPU: tensors by name, its sample record, and the signature of its shapes.

    Only images of equal signature may share a batch: nothing is ever padded.
    """

    sample: Sample
    tensors: dict[str, Any]
    signature: Hashable


@dataclass
class Captured:
    """What one batch leaves behind, in the run's precision; bfloat16 as its uint16 bits.

    arrays: kind -> one array per image, (layer, head, token, dim). `key` and `value` hold image tokens in prompt
        order; `projected` is (1, 1, token, hidden) in the same token order, `vision` (vision_layer, 1,
        vision_token, vision_dim) in row-major order of the sample's vision_spans.
    text: "key" and "value" of the text before the image, one array per image, (layer, kv_head, prefix_token, dim).
    """

    arrays: dict[Kind, list[Array]] = field(default_factory=dict)
    text: dict[str, list[Array]] = field(default_factory=dict)


class Model(Protocol):
    """A loaded model. `prepare` is safe to call from other threads than `capture`."""

    info: ModelInfo

    def request(self, kinds: Sequence[Kind] | None, layers: Sequence[int] | None, keys: KeyPosition) -> Request:
        """Resolve the user's choice against this model; None means the family's default. Raises UsageError."""
        ...

    def prepare(self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base") -> Prepared:
        """Preprocess one RGB image and lay out its prompt up to the last image token."""
        ...

    def capture(self, batch: Sequence[Prepared], request: Request) -> Captured:
        """Run the tower and the decoder over prefix and image tokens; no head. Batch of equal signatures only."""
        ...

    def text_values(self, texts: Sequence[str], layers: Sequence[int]) -> Array:
        """Values of each text's last token, the text run alone: (text, layer, kv_head, dim) in the run's precision."""
        ...

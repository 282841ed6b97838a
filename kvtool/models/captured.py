"""What a batch of pictures leaves behind, and when it is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


@dataclass
class Captured:
    """What one batch leaves behind, in the run's precision; bfloat16 as its uint16 bits.

    arrays: array -> one per image, (layer, head, token, dim): a kind, or of keys and values whose
        layers differ in shape, one for each shape (kvtool.geometry.LayerArray). `key` and `value`
        hold image tokens in prompt order; `projected` is (1, 1, token, hidden) in the same token
        order, `hidden` (layer, 1, token, hidden) too, what each layer puts out before the final
        norm, `vision` (vision_layer, 1, vision_token, vision_dim) in row-major order of the
        sample's vision_spans, `saliency` (1, 1, vision_token, 1) in that order too.
    text: keys and values of the text before the image by the same names, one array per image,
        (layer, kv_head, prefix_token, dim).

    copies: events of CUDA that come when the arrays are filled, see `wait`.

    The images of a batch share one host buffer per kind: an array may be strided, and holds the
    batch's memory.
    """

    arrays: dict[str, list[Array]] = field(default_factory=dict)
    text: dict[str, list[Array]] = field(default_factory=dict)
    copies: tuple[torch.cuda.Event, ...] = ()

    def wait(self) -> Captured:
        """Return this when all its arrays are filled."""
        for copy in self.copies:
            copy.synchronize()
        return self

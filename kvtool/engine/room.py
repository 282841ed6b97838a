"""How many pictures a device has room for at once, reckoned before they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvtool.store.estimate import sample_bytes

if TYPE_CHECKING:
    import torch

    from kvtool.models.base import Model, Request
    from kvtool.types import ModelInfo, Sample

BATCH_IMAGES = 16
"""Images of a batch unless they are too large."""
BATCH_SHARE = 4
"""A batch takes no more than the device's memory divided by this."""
MOST_IMAGES = {"cpu": 64, "cuda": 256}
"""The most images that run at once."""
VALUES_PER_WIDTH = 28
"""Numbers that a layer holds of a token at once, by the width of its residual stream: states before
and after, queries, keys, values, and an MLP of 4 to 6 times the width, three times.
"""


def image_bytes(sample: Sample, info: ModelInfo, request: Request) -> int:
    """Return the bytes that an image takes on the device as it runs: the widest layer's, and what
    is captured.
    """
    geometry = info.geometry
    # What stands before the image runs with it, and takes room as well.
    n_tokens = sample.image_start + sample.n_tokens
    # Tower and decoder run one after the other, so that the larger of the two counts.
    width = max(n_tokens * geometry.hidden, sample.n_vision_tokens * geometry.vision_dim)
    itemsize = 4 if info.dtype == "float32" else 2
    return width * VALUES_PER_WIDTH * itemsize + sample_bytes(sample, info, request)


class DeviceRoom:
    """The room of a model's device for its images."""

    def __init__(self, model: Model, request: Request) -> None:
        from kvtool.models.memory import total_bytes

        self._info, self._request = model.info, request
        self._device: torch.device = model.checkpoint.device  # type: ignore[attr-defined]
        self._total = total_bytes(self._device)
        self._peak_per_image = 0

    def batch_images(self, sample: Sample) -> int:
        """Return how many images like this form a batch, a power of two.

        It depends on all of the device's memory, not on how much of it is free, so that the same
        command forms the same batches.
        """
        size, n_bytes = BATCH_IMAGES, image_bytes(sample, self._info, self._request)
        while size > 1 and size * n_bytes > self._total // BATCH_SHARE:
            size //= 2
        return size

    @contextmanager
    def watched(self, n_images: int) -> Iterator[None]:
        """Watch what a pass over images takes of a GPU at most."""
        import torch

        if self._device.type != "cuda":
            yield
            return
        torch.cuda.reset_peak_memory_stats(self._device)
        # Weights and captures of earlier passes are there before and after: only the pass counts.
        before = torch.cuda.memory_allocated(self._device)
        yield
        n_bytes = torch.cuda.max_memory_allocated(self._device) - before
        self._peak_per_image = -(-n_bytes // n_images)

    def fits(self, sample: Sample, n_images: int) -> bool:
        """Return whether there is room for so many images like those that ran last."""
        import torch

        from kvtool.models.memory import free_bytes

        free = free_bytes(self._device)
        if self._device.type != "cuda":
            # A machine that swaps is slower than any batch is faster.
            n_bytes = n_images * image_bytes(sample, self._info, self._request)
            return n_images <= MOST_IMAGES["cpu"] and n_bytes <= free // BATCH_SHARE
        # What torch holds and does not use is free, too.
        free += torch.cuda.memory_reserved(self._device)
        free -= torch.cuda.memory_allocated(self._device)
        return n_images <= MOST_IMAGES["cuda"] and n_images * self._peak_per_image <= free

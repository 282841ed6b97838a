"""What a model family provides that is given videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from PIL import Image

from kvtool.models.base import Prepared
from kvtool.types import Frame


@runtime_checkable
class VideoModel(Protocol):
    """A model that is given the frames of a video in one context."""

    def prepare_video(
        self,
        pictures: Sequence[Image.Image],
        frames: Sequence[Frame],
        frame_rate: float,
        *,
        id: str,
        index: int,
        prefix: str = "",
    ) -> Prepared:
        """Preprocess the frames of a video, RGB of one size, and lay out its prompt up to the last
        of its tokens.

        Each span of the sample shows one frame or several, which it names. Raises ImageError.

        Args:
            pictures: The frames, two or more.
            frames: When each stands, and what it is called.
            frame_rate: How many of them make a second.
            id, index, prefix: As in Model.prepare.
        """
        ...

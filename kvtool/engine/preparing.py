"""One picture, or one video, of a data set made ready for a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kvtool.datasets.clips import load_clip
from kvtool.datasets.images import decode, read_bytes
from kvtool.datasets.records import ImageRef, VideoRef
from kvtool.digests import digest_bytes
from kvtool.errors import UsageError
from kvtool.models.families import TAKES_VIDEOS
from kvtool.types import RunView

if TYPE_CHECKING:
    from kvtool.models.base import Model, Prepared


def prepare_ref(model: Model, ref: ImageRef, index: int, prefix: str, view: RunView) -> Prepared:
    """Decode and preprocess one picture or video, and record what its files were.

    Raises ImageError for one that cannot be used, UsageError where the model takes no videos.
    """
    from kvtool.models.videos import VideoModel

    if isinstance(ref, VideoRef):
        if not isinstance(model, VideoModel):
            raise UsageError(
                f"--view video: expected a model that is given videos, found {model.info.name} of "
                f"family {model.info.family}; take one of {', '.join(TAKES_VIDEOS)}, or extract "
                "the frames one by one (--view base)"
            )
        clip = load_clip(ref)
        prepared = model.prepare_video(
            clip.pictures, clip.frames, clip.frame_rate, id=ref.id, index=index, prefix=prefix
        )
        digest, stamp = clip.digest, clip.stamp
    else:
        assert view != "video", "videos have references of their own"
        data, file_stamp = read_bytes(ref)
        prepared = model.prepare(
            decode(ref, data), id=ref.id, index=index, prefix=prefix, view=view
        )
        # What the files were travels with the sample, so that a later change of them is noticed.
        digest, stamp = digest_bytes(data), tuple(file_stamp or ())
    return replace(prepared, sample=replace(prepared.sample, digest=digest, stamp=stamp))

"""Videos as they are given to a model in one context: which frames, when each stands, and what
their pictures are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from kvtool.datasets.images import decode, digest_pictures, label, read_bytes
from kvtool.datasets.protocols import HasClips
from kvtool.datasets.records import ImageRef, VideoRef
from kvtool.datasets.sampling import DEFAULT_RATE, Sampling
from kvtool.digests import digest_bytes, digest_texts
from kvtool.errors import ImageError, UsageError
from kvtool.types import VIDEO, Frame, RunView

if TYPE_CHECKING:
    from kvtool.datasets.base import Dataset

MOST_FRAMES = 768
"""The most frames that are given together, as transformers' processors have it."""


@dataclass(frozen=True)
class VideoClip:
    """The frames of a video, decoded, all of one size.

    Attributes:
        pictures: The frames in order, upright RGB.
        frames: What is recorded of each.
        frame_rate: How many of them make a second.
        digest: Of the video file, or of the frames' ids and their files' digests.
        stamp: Of the video file; empty where the frames are files of their own.
    """

    pictures: list[Image.Image]
    frames: tuple[Frame, ...]
    frame_rate: float
    digest: str
    stamp: tuple[int, ...] = ()


def clip_of(
    name: str,
    frames: Sequence[ImageRef],
    sampling: Sampling = Sampling(),
) -> VideoRef:
    """Return the video of some frames, those that a sampling takes."""
    # Sampling counts in frames, times in seconds: the rate of the source ties them together.
    rate = sampling.rate or DEFAULT_RATE
    indices = sampling.indices(len(frames), rate)
    return VideoRef(
        name,
        frames=tuple(frames[index] for index in indices),
        seconds=tuple(index / rate for index in indices),
        # Frames that were left out lower the rate: it is that of the frames that are given.
        frame_rate=len(indices) / len(frames) * rate,
    )


def view_of(dataset: Dataset, view: RunView) -> RunView:
    """Return the view of a run over a data set: that of videos alone, or the one asked for.

    Raises UsageError where videos are asked for in another view.
    """
    only: RunView | None = getattr(dataset, "view", None)
    if only is None or view in (only, "base"):
        return only or view
    raise UsageError(
        f"--view {view}: expected {only} over {dataset.name}, whose frames stand in one context; "
        "leave it out, or take folder:PATH for the frames one by one"
    )


def refs_of(dataset: Dataset, view: RunView) -> Sequence[ImageRef]:
    """Return what a run of a view holds of a data set: its pictures, or its videos.

    Raises UsageError where the data set has no videos.
    """
    if view != VIDEO:
        return dataset.images()
    if not isinstance(dataset, HasClips):
        raise UsageError(
            f"--view video: expected a data set of videos, found {dataset.name}; for a folder of "
            "frames, or of such folders, write video:PATH"
        )
    return dataset.clips()


def load_clip(ref: VideoRef) -> VideoClip:
    """Return a video decoded. Raises ImageError for one that has a frame which cannot be used:
    without it the others would stand at other times than they were taken.
    """
    # A video file has one digest of its own; frames are pictures with a digest each.
    if ref.decode is not None:
        clip: VideoClip = ref.decode()
        return checked_clip(ref, clip)
    check_count(label(ref), len(ref.frames))
    pictures: list[Image.Image] = []
    frames: list[Frame] = []
    for frame, second in zip(ref.frames, ref.seconds, strict=True):
        data, stamp = read_bytes(frame)
        pictures.append(decode(frame, data))
        frames.append(Frame(frame.id, second, digest_bytes(data), tuple(stamp or ())))
    digest = _joined_digest({frame.id: frame.digest for frame in frames})
    return checked_clip(ref, VideoClip(pictures, tuple(frames), ref.frame_rate, digest))


def checked_clip(ref: VideoRef, clip: VideoClip) -> VideoClip:
    """Return a video that a model can be given. Raises ImageError."""
    check_count(label(ref), len(clip.frames))
    # A model takes all frames as one array, which has a single size.
    first = clip.pictures[0].size
    for picture, frame in zip(clip.pictures, clip.frames, strict=True):
        if picture.size != first:
            raise ImageError(
                f"video {label(ref)}: expected frames of one size, {first[0]} x {first[1]} px as "
                f"the first, found {frame.id} of {picture.width} x {picture.height} px; bring "
                "them to one size, or leave the video out"
            )
    return clip


def check_count(name: str, n_frames: int) -> None:
    """Raise ImageError where a video has too few frames, or more than a model is given."""
    if n_frames < 2:
        raise ImageError(
            f"video {name}: expected two frames or more, found {n_frames}; take folder:PATH for "
            "single pictures"
        )
    if n_frames > MOST_FRAMES:
        raise ImageError(
            f"video {name}: expected at most {MOST_FRAMES} frames, found {n_frames}; take fewer, "
            "e.g. @fps=2 or @frames=64"
        )


def digest_refs(refs: Sequence[ImageRef]) -> dict[str, str]:
    """Return the digest of each picture or video by id, an empty string where it cannot be read.

    What is remembered and unchanged is not read again, see digest_pictures.
    """
    # Digests of frames are asked for together, so that each file is looked at once.
    by_frame = digest_pictures(list(_pictures_of(refs)))
    return {
        ref.id: _joined_digest({frame.id: by_frame[frame.id] for frame in ref.frames})
        if isinstance(ref, VideoRef) and ref.frames
        else by_frame[ref.id]
        for ref in refs
    }


def _pictures_of(refs: Iterable[ImageRef]) -> Iterable[ImageRef]:
    """Yield the files of pictures and videos: of a video of single frames each of these."""
    for ref in refs:
        yield from ref.frames if isinstance(ref, VideoRef) and ref.frames else (ref,)


def _joined_digest(digests: Mapping[str, str]) -> str:
    """Return a video's digest from its frames'; empty where one of them is."""
    # A frame that cannot be read leaves the video without a digest: it counts as unreadable.
    if not all(digests.values()):
        return ""
    items: Iterable[Any] = digests.items()
    return digest_texts(text for item in items for text in item)

"""Frames of a video file, decoded by PyAV, an optional library (`pip install "kvtool[video]"`)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from kvtool.datasets.clips import MOST_FRAMES, VideoClip, check_count
from kvtool.datasets.raster import one_line
from kvtool.datasets.sampling import DEFAULT_RATE, Sampling
from kvtool.digests import digest_file, quick_look
from kvtool.errors import DatasetError, ImageError
from kvtool.types import Frame

_NAMES = "3gp avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv"
SUFFIXES = frozenset(f".{suffix}" for suffix in _NAMES.split())
"""Video files, by the ends of their names."""


def check_reader(path: Path) -> None:
    """Raise DatasetError where a file is no video, or the library that reads it is not there."""
    if path.suffix.lower() not in SUFFIXES:
        raise DatasetError(
            f"video: {path}: expected a folder of frames or a video file such as .mp4, found "
            "another file"
        )
    try:
        import_module("av")
    except ImportError:
        raise DatasetError(
            f"video: {path}: expected PyAV, which reads video files, found it missing; "
            'pip install "kvtool[video]", or give a folder of frames'
        ) from None


def decode_file(path: Path, sampling: Sampling) -> VideoClip:
    """Return the frames that a sampling takes of a video file.

    Their seconds are counted by the file's mean frame rate. Raises ImageError for a file that is
    broken or has no frames.
    """
    # Before decoding, so that a later change of the file is noticed.
    stamp, digest = quick_look(path), digest_file(path)
    try:
        n_frames, rate = _counted(path, sampling)
        indices = sampling.indices(n_frames, rate) if n_frames else []
        check_count(str(path), len(indices))
        pictures = _decoded(path, frozenset(indices))
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001  PyAV raises many kinds over broken files
        raise ImageError(
            f"video {path}: expected a video file, found that it cannot be read: {one_line(error)}"
        ) from None
    # Fewer frames than packets: the end of the file is damaged.
    if len(pictures) != len(indices):
        raise ImageError(
            f"video {path}: expected {len(indices)} frames, found {len(pictures)}; the file is "
            "broken: copy it again"
        )
    frames = tuple(Frame(f"{path.name}/{index:05d}", index / rate) for index in indices)
    return VideoClip(pictures, frames, len(indices) / n_frames * rate, digest, tuple(stamp or ()))


def _counted(path: Path, sampling: Sampling) -> tuple[int, float]:
    """Return how many frames a video file has, and how many make a second; nothing is decoded."""
    av: Any = import_module("av")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = sampling.rate or float(stream.average_rate or DEFAULT_RATE)
        # A packet of a video stream holds a frame; the last ones are empty.
        return sum(1 for packet in container.demux(stream) if packet.size), rate


def _decoded(path: Path, indices: frozenset[int]) -> list[Any]:
    """Return the frames of some indices, upright."""
    av: Any = import_module("av")
    pictures = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in indices:
                picture = frame.to_image()
                # Phones store frames as the sensor has them, with an angle beside.
                angle = getattr(frame, "rotation", 0)
                pictures.append(picture.rotate(angle, expand=True) if angle else picture)
            # Decoding ends with the last frame that is wanted.
            if len(pictures) == len(indices) or len(pictures) > MOST_FRAMES:
                break
    return pictures

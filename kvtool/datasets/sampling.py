"""Which frames of a video are taken: what follows `@` in `video:PATH@fps=2,frames=16`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from kvtool.errors import UsageError

DEFAULT_RATE = 24.0
"""Frames a second of a folder of pictures, where nobody says it; transformers takes the same."""
FEWEST_FRAMES = 4
"""The fewest frames, where there are as many, that `fps` takes of a video, as transformers does."""
LARGEST_NUMBER = 1e6


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are taken; str() gives it as it is written in a spec.

    Args:
        fps: so many frames of a second; 0 for all.
        frames: at most so many frames; 0 for no limit.
        rate: how many pictures of a folder make a second; 0 for DEFAULT_RATE. A video file says its
            own, which a rate replaces.
    """

    fps: float = 0.0
    frames: int = 0
    rate: float = 0.0

    def __str__(self) -> str:
        return ",".join(f"{name}={value:g}" for name, value in vars(self).items() if value)

    @classmethod
    def parse(cls, text: str) -> Sampling:
        """Return what a text such as "fps=2,frames=16" says. Raises UsageError."""
        values: dict[str, float] = {}
        for item in text.split(",") if text else ():
            name, _, number = item.partition("=")
            value = _positive(number)
            if name not in NAMES or value is None or name in values:
                raise UsageError(f"video: @{text}: expected {GRAMMAR}, found {item!r}")
            values[name] = value
        # Two frames at least: one alone is a picture.
        if not values.get("frames", 2.0).is_integer() or values.get("frames", 2.0) < 2:
            raise UsageError(
                f"video: @{text}: expected frames to be a whole number from 2 on, found "
                f"{values['frames']:g}"
            )
        return cls(values.get("fps", 0.0), int(values.get("frames", 0)), values.get("rate", 0.0))

    def count(self, n_frames: int, rate: float) -> int:
        """Return how many of a video's frames are taken."""
        count = n_frames
        if self.fps:
            # Never more than there are, and a few even of a short video.
            count = min(max(int(n_frames / rate * self.fps), FEWEST_FRAMES), n_frames)
        return min(count, self.frames) if self.frames else count

    def indices(self, n_frames: int, rate: float) -> list[int]:
        """Return which of a video's frames are taken: evenly spread from the first to the last, as
        transformers takes them for Qwen3-VL.
        """
        import numpy as np

        spread = np.linspace(0, n_frames - 1, self.count(n_frames, rate))
        return [int(index) for index in spread.round()]


NAMES = tuple(field.name for field in fields(Sampling))
GRAMMAR = "fps=NUMBER, frames=NUMBER, rate=NUMBER, joined by commas, each once"


def is_sampling(text: str) -> bool:
    """Return whether a text can be meant as a sampling, well written or not."""
    return all(item.partition("=")[0] in NAMES and "=" in item for item in text.split(","))


def _positive(text: str) -> float | None:
    """Return a positive finite number; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value <= LARGEST_NUMBER else None

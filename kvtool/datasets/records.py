"""A picture, a question, and what a data set says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTIONS = "questions"
CAPTIONS = "captions"
CONCEPTS = "concepts"
SERVICES = (QUESTIONS, CAPTIONS, CONCEPTS)
"""What a data set may serve beside tasks, each by a method of this name: HasQuestions, HasCaptions
and HasConcepts in kvtool.datasets.protocols.
"""


@dataclass(frozen=True)
class ImageRef:
    """One picture: `path` on disk, or `read` for pictures that live inside another file (parquet).

    container: that other file. While it is unchanged, an id names the same bytes in it.
    """

    id: str
    path: Path | None = None
    read: Callable[[], bytes] | None = None
    container: Path | None = None


@dataclass(frozen=True)
class VideoRef(ImageRef):
    """The pictures of one video, which a model is given together.

    A video file has its `path`, and `decode` gives its kvtool.datasets.clips.VideoClip; any other
    has its frames.

    seconds: when each frame stands. frame_rate: how many of the frames make a second.
    """

    frames: tuple[ImageRef, ...] = ()
    seconds: tuple[float, ...] = ()
    frame_rate: float = 0.0
    decode: Callable[[], Any] | None = None


@dataclass(frozen=True)
class About:
    """What `kvtool datasets` prints of a data set.

    splits: the names after '@', the default first. layout: the files the loader reads, relative to
    the root, each a line "path  what it is". conditions: the prefixes of PREFIX_CONDITIONS that it
    offers. is_sampled: whether frames are chosen after '@', see kvtool.datasets.sampling.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    splits: tuple[str, ...]
    layout: tuple[str, ...]
    source: str
    licence: str
    conditions: tuple[str, ...] = ("none", "random")
    is_sampled: bool = False


@dataclass(frozen=True)
class Question:
    """One question of a benchmark.

    `group` is what scores are reported by: file, subset or sub-task.

    prompt: the whole text that the benchmark puts to a model, options included. answer: as the
    benchmark writes it ("yes", "Yes", "(A)"); "" where it is not public. choices: the options'
    texts in the order of their letters. source: the image collection, where scores are weighted by
    it (CV-Bench).
    """

    id: str
    image_ids: tuple[str, ...]
    text: str
    prompt: str
    answer: str
    group: str
    choices: tuple[str, ...] = ()
    source: str = ""

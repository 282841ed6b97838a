"""Videos without annotations (`video:PATH`): a folder of frames, a video file, or a folder of
several of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.clips import check_count, clip_of
from kvtool.datasets.files import by_stem
from kvtool.datasets.names import is_hidden, is_utf8, printable
from kvtool.datasets.records import VideoRef
from kvtool.datasets.sampling import Sampling
from kvtool.datasets.video_files import SUFFIXES, check_reader, decode_file
from kvtool.errors import DatasetError, ImageError, UsageError
from kvtool.types import VIDEO, RunView


class VideoFolder(DatasetBase):
    """Videos, each given to a model in one context.

    A folder that has pictures is a video, and so is each folder directly below it that has some,
    and each video file in it. Ids are names of folders and files, and of frames `<video>/<frame>`.

    unread: videos that no run can hold, each with its reason.
    """

    about = About(
        name="video",
        title="videos: folders of frames, or video files",
        tasks=(),
        splits=(),
        layout=(
            "*.{jpg,png,...}  the frames of one video, by their names with numbers in order",
            "<video>/*.{jpg,png,...}  or those of several",
            "*.{mp4,mov,mkv,webm,...}  or video files, or PATH itself is one: needs kvtool[video]",
        ),
        source="yours",
        licence="yours",
        is_sampled=True,
    )
    view: RunView = VIDEO
    """The view in which a run holds it, unless another is asked for."""

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root)
        self.sampling = Sampling.parse(split or "")
        self.split = str(self.sampling)
        self.skipped = self.unread
        if root is None:
            raise UsageError("video: expected a path, found none; write video:PATH")
        if not self._clips:
            reason = f"; first problem: {self.unread[0]}" if self.unread else "; check the path"
            raise DatasetError(
                f"video: {root}: expected frames, folders of frames or video files, found none "
                f"to use{reason}"
            )

    def default_split(self) -> str:
        """Return the empty name: all frames are taken."""
        return ""

    def clips(self) -> Sequence[VideoRef]:
        """Return the videos, sorted by name."""
        return self._clips

    def images(self) -> Sequence[ImageRef]:
        """Return the frames of all videos that are no files."""
        return [frame for clip in self._clips for frame in clip.frames]

    def present(self) -> list[ImageRef]:
        """Return the frames that are there: all of them, as they were listed from their folders."""
        return list(self.images())

    def truth_files(self) -> Sequence[Path]:
        """Return no file: the videos are all there is."""
        return ()

    @cached_property
    def _clips(self) -> list[VideoRef]:
        assert self.root is not None
        # A single file is the whole data set.
        if self.root.is_file():
            return list(self._usable([self.root]))
        entries = sorted(self.folder.iterdir(), key=lambda path: natural(path.name))
        visible = [path for path in entries if not is_hidden(path.name)]
        below = [path for path in visible if path.suffix.lower() in SUFFIXES or path.is_dir()]
        # Pictures right in the folder make it a video itself, beside those below it.
        is_video = bool(by_stem(self.folder))
        return list(self._usable([*([self.folder] if is_video else []), *below]))

    def _usable(self, paths: Sequence[Path]) -> Iterator[VideoRef]:
        """Yield the videos at some places; those that cannot be used are named in `unread`.

        Raises DatasetError for two of one name, whose frames would have equal ids.
        """
        by_name: dict[str, Path] = {}
        for path in paths:
            try:
                if not is_utf8(path.name):
                    name = printable(str(path))
                    raise DatasetError(f"{name}: a name that is not UTF-8; rename it")
                clip = self._clip_at(path)
            except (DatasetError, ImageError) as error:
                self.unread.append(str(error))
                continue
            # Links of different names may lead to folders of one name.
            if (first := by_name.setdefault(clip.id, path)) != path:
                raise DatasetError(
                    f"video: {self.root}: expected videos of different names, found {first} and "
                    f"{path}, both named {clip.id}; rename a folder, of a link the one it leads to"
                )
            yield clip

    def _clip_at(self, path: Path) -> VideoRef:
        """Return the video at a place. Raises DatasetError or ImageError."""
        if not path.is_dir():
            check_reader(path)
            return VideoRef(path.name, path, decode=partial(decode_file, path, self.sampling))
        # The real name, since the path may be "." or a link.
        name = path.resolve().name
        pictures = sorted(by_stem(path, self.unread).items(), key=lambda item: natural(item[0]))
        # Counted before frames are chosen, so that the error names what is there.
        if len(pictures) < 2:
            check_count(str(path), len(pictures))
        clip = clip_of(
            name, [ImageRef(f"{name}/{stem}", file) for stem, file in pictures], self.sampling
        )
        check_count(str(path), len(clip.frames))
        return clip


def natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts names with their numbers in order: frame2 before frame10."""
    return [
        (int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", name)
    ]

"""The files of a data set of one's own: its pictures and their ids, the masks beside them, the
lines of its lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from kvtool.datasets import own_records as records
from kvtool.datasets.base import DatasetBase, ImageRef
from kvtool.datasets.files import by_stem, found, pictures_below
from kvtool.datasets.listing import Listing
from kvtool.datasets.names import brief, is_hidden
from kvtool.errors import DatasetError

Item = TypeVar("Item")
VIDEOS = "videos"
LISTS = ("pairs.jsonl", "questions.jsonl", "captions.jsonl")
_PNG = ".png"


class OwnFiles(DatasetBase):
    """What lies where.

    `_unlisted` has the lines about pictures that are left out, for whoever asks.
    """

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self._masks = self.folder / "masks"
        self._unlisted: list[str] = []
        self._listings: dict[Path, Listing] = {}
        if not self._refs:
            reason = f"; {self._unlisted[0]}" if self._unlisted else ""
            instead = found(self.folder / "images" / "x", self.folder)
            raise DatasetError(
                f"{self.name}: {self.folder}: expected pictures at images/ or videos/<name>/, "
                f"found {instead}{reason}; see docs/datasets.md, or take folder:PATH for pictures "
                "alone"
            )

    @cached_property
    def _pictures(self) -> dict[str, Path]:
        """Id -> file of the pictures that are no frames."""
        return pictures_below(self.folder / "images", self._unlisted)

    @cached_property
    def _frames(self) -> dict[str, dict[str, Path]]:
        """Video -> frame id -> file."""
        folder = self.folder / VIDEOS
        if not folder.is_dir():
            return {}
        video_folders = sorted(p for p in folder.iterdir() if p.is_dir() and not is_hidden(p.name))
        frames = {}
        # Masks lie in a folder below, which is not looked into here.
        for video in video_folders:
            pictures = by_stem(video, self._unlisted)
            if pictures:
                ids = {f"{VIDEOS}/{video.name}/{stem}": path for stem, path in pictures.items()}
                frames[video.name] = ids
            else:
                self._unlisted.append(f"{video}: expected frames of a video, found none")
        return frames

    @cached_property
    def _refs(self) -> dict[str, ImageRef]:
        """Every picture by its id, frames last; of two of one id the first counts."""
        refs = {name: ImageRef(name, path) for name, path in self._pictures.items()}
        # Frames come last: of pictures with one id the one below images/ counts.
        for name, path in (item for frames in self._frames.values() for item in frames.items()):
            if name in refs:
                self._unlisted.append(
                    f"{path}: a second picture of the id {name}; rename images/videos/"
                )
            refs.setdefault(name, ImageRef(name, path))
        return refs

    def images(self) -> Sequence[ImageRef]:
        """Return the pictures, then the frames of the videos."""
        self.skipped = list(self._unlisted)
        return list(self._refs.values())

    def _image_of(self, value: Any) -> str:
        """Return the id of the picture that a line names, by its id or its file. Raises
        DatasetError.
        """
        if isinstance(value, str):
            # An id, or a path below the data set or below images/, with or without a suffix.
            below = value.removeprefix("images/")
            for name in (value, below, below.rpartition(".")[0]):
                if name in self._refs:
                    return name
        raise DatasetError(f"expected the id of a picture that is there, found {brief(value)}")

    def _has(self, name: str) -> bool:
        """Return whether there is a file, or with a slash at the end a folder, of this name."""
        path = self.folder / name
        return path.is_dir() if name.endswith("/") else path.is_file()

    def _lines(
        self, name: str, read: Callable[[int, dict[str, Any], records.ImageOf], Item]
    ) -> tuple[list[Item], list[str]]:
        """Return what the lines of a list say, and a reason for each line that is left out.

        Raises DatasetError where none is left, or there is no such file.
        """
        path = self.folder / name
        left_out: list[str] = []
        items = list(
            records.usable_lines(
                path, lambda at, record: read(at, record, self._image_of), left_out
            )
        )
        if not items:
            reason = f"; first problem: {left_out[0]}" if left_out else ""
            raise DatasetError(
                f"{path}: expected a JSON object a line, found none that can be used{reason}"
            )
        return items, left_out

    @cached_property
    def _captions(self) -> tuple[list[records.Caption], list[str]]:
        return self._lines("captions.jsonl", records.caption_of)

    def _listing(self, folder: Path) -> Listing:
        """Return the names in a folder, read once."""
        if folder not in self._listings:
            self._listings[folder] = Listing(folder)
        return self._listings[folder]

    def _frame_masks(self, video: str) -> Listing:
        """Return the names in the folder of a video's masks."""
        return self._listing(self.folder / VIDEOS / video / "masks")

    def _mask_place(self, image_id: str) -> tuple[Listing, str]:
        """Return the folder and the name of a picture's, or a frame's, mask."""
        above, _, stem = image_id.rpartition("/")
        # Masks of frames lie beside them, those of pictures in a tree like that of images/.
        is_frame = image_id not in self._pictures and image_id in self._refs
        folder = self.folder / above / "masks" if is_frame else self._masks / above
        return self._listing(folder), stem + _PNG

    def truth_file(self, image_id: str) -> Path:
        """Return where a picture's or a frame's mask is, or should be."""
        listing, name = self._mask_place(image_id)
        return listing.place(name)

    def has_label_map(self, image_id: str) -> bool:
        """Return whether a picture or a frame has a mask."""
        listing, name = self._mask_place(image_id)
        return listing.find(name) is not None

    def unpictured(self) -> Sequence[str]:
        """Return the names of masks without a picture, those of captions' objects aside."""
        # A mask is of a picture, or named by a caption; any other one has lost its picture.
        used = {self.truth_file(name) for name in self._pictures}
        used.update(self._object_masks())
        masks = sorted(self._masks.rglob(f"*{_PNG}")) if self._masks.is_dir() else []
        names = [
            mask.relative_to(self._masks).with_suffix("") for mask in masks if mask not in used
        ]
        frames = [
            f"{VIDEOS}/{video}/{Path(name).stem}"
            for video in self._frames
            for name in sorted(self._frame_masks(video).names)
            if name.endswith(_PNG)
        ]
        return [*map(str, names), *(name for name in frames if name not in self._refs)]

    def _object_masks(self) -> list[Path]:
        """Return the masks that captions name."""
        try:
            captions = self._captions[0] if self._has("captions.jsonl") else []
        except DatasetError:
            captions = []
        return [self.folder / caption.mask for caption in captions if caption.mask]

    def truth_files(self) -> Sequence[Path]:
        """Everything that is read but the pictures; the lists whether they are there or not."""
        lists = [self.folder / name for name in ("classes.json", *LISTS)]
        maps = [self.truth_file(name) for name in self._refs if self.has_label_map(name)]
        for video in self._frames:  # those of frames that are not there are looked at, too
            masks = self._frame_masks(video)
            maps += [masks.folder / name for name in sorted(masks.names)]
        return list(dict.fromkeys([*lists, *maps, *self._object_masks()]))

"""Temporal correspondence on DAVIS-2017 (protocol 6): the first frame's masks, propagated as DINO
does.

A token's soft mask is the weighted mean of those of its five nearest tokens in frame 0 and the
seven frames before, by exp(cosine / 0.1), within 12 patches in each direction; see propagation.py.
`propagation="nearest"` copies the nearest token of frame 0 and the last frame. Soft masks are
upsampled, stretched per object, and scored by the official rules. Where frames of a video share
tokens, "frame" means those that do: they share a mask, too.

Memory: eight frames of a sequence, and the products of some tokens with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from kvtool.datasets.davis import Video
from kvtool.datasets.masks import VOID
from kvtool.datasets.protocols import HasVideos
from kvtool.errors import DatasetError, KvtoolError, UsageError
from kvtool.features.layers import GridImage, Layer, upsample
from kvtool.metrics.video import boundary_accuracy, davis_scores, davis_units, region_similarity
from kvtool.result import Row
from kvtool.tasks.base import Array, Grids, Table
from kvtool.tasks.chance import pixels_unseen
from kvtool.tasks.options import Flag
from kvtool.tasks.predictions import save_labels
from kvtool.tasks.spread import spread
from kvtool.tasks.truth import LeftOut, Sizes, check_shape
from kvtool.types import VECTOR_KINDS, Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PROPAGATIONS = ("dino", "nearest")


class TemporalCorrespondence:
    """The task of following the objects of a video from their masks in its first frame."""

    name: ClassVar[str] = "temporal-correspondence"
    metric: ClassVar[str] = "j_and_f"
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool] = True
    serves: ClassVar[tuple[str, ...]] = ()
    promptable: ClassVar[bool] = False
    kinds: ClassVar[tuple[Kind, ...]] = VECTOR_KINDS
    drawing: ClassVar[str] = "objects"

    def __init__(
        self,
        dataset: HasVideos,
        ids: Sizes,
        device: torch.device,
        *,
        limit: int | None = None,
        propagation: Annotated[
            Literal["dino", "nearest"], Flag("How masks go from frame to frame.")
        ] = "dino",
    ) -> None:
        if propagation not in PROPAGATIONS:
            raise UsageError(
                f"{self.name}: propagation is {' or '.join(PROPAGATIONS)}, not {propagation!r}"
            )
        self.dataset, self.device, self.propagation, self.limit = (
            dataset,
            device,
            propagation,
            limit,
        )
        self.sizes = ids
        self.videos, left_out = self._usable(dataset, ids)
        self._saved = self.videos
        self.skipped, self.n_skipped = left_out.lines, left_out.count
        self.n_unusable = left_out.unusable
        # A sampling unit is an object of a sequence, not a frame: frames of one are alike.
        self.objects = [
            (video.name, number)
            for video in self.videos
            for number in range(1, video.n_objects + 1)
        ]
        self.n = len(self.objects)

    def _usable(self, dataset: HasVideos, ids: Sizes) -> tuple[list[Video], LeftOut]:
        """Return the sequences whose frames the run holds and whose masks can be used. Raises
        KvtoolError for none.
        """
        videos = dataset.videos()
        unusable = dataset.n_sequences - len(videos)
        left_out = LeftOut([*dataset.notes, *dataset.skipped], unusable, unusable)
        complete = [video for video in videos if set(video.frame_ids) <= ids.keys()]
        left_out.many(
            len(videos) - len(complete), "sequences have frames that the run does not hold"
        )
        if not complete:
            raise KvtoolError(
                f"{self.name}: the run holds all frames of none of {len(videos)} sequences: "
                "extract more"
            )
        usable = left_out.usable(
            complete, lambda video: check_video(dataset, video, ids), self.limit
        )
        if not usable:
            raise left_out.none_left(self.name, f"none of {len(complete)} sequences can be used")
        return usable, left_out

    def settings(self) -> dict[str, Any]:
        """Return the options that the numbers depend on."""
        return {"propagation": self.propagation, "limit": self.limit}

    def images(self) -> set[str]:
        """Return the ids of the frames of all sequences."""
        return {frame for video in self.videos for frame in video.frame_ids}

    def measure(self, layer: Layer) -> Array:
        """(head, object, 7): davis_units of every object of every sequence."""
        return np.concatenate([self._measure_video(layer, video) for video in self.videos], axis=1)

    def _measure_video(self, layer: Layer, video: Video) -> Array:
        heads = range(len(layer.heads))
        return self._score(
            video,
            (
                [index_mask(soft[head], frame) for head in heads]
                for frame, soft in self._propagate(layer, video)
            ),
            len(heads),
        )

    def _score(self, video: Video, masks: Iterable[Sequence[Array]], n: int) -> Array:
        """(n, object, 7): davis_units of the ids that n predictors give the later frames."""
        # The first frame is given, and the official evaluator leaves out the last.
        scored = video.frame_ids[1:-1]
        j, f = np.zeros((2, n, video.n_objects, len(scored)))
        for column, (frame, predicted) in enumerate(zip(scored, masks, strict=False)):
            truth = self._labels(frame)
            for row, ids in enumerate(predicted):
                for number in range(1, video.n_objects + 1):
                    pair = ids == number, truth == number
                    j[row, number - 1, column] = region_similarity(*pair)
                    f[row, number - 1, column] = boundary_accuracy(*pair)
        return davis_units(j, f)

    def _labels(self, frame: str) -> Array:
        """A frame's annotation."""
        labels = self.dataset.label_map(frame)
        check_shape(labels, self.sizes[frame], str(self.dataset.truth_file(frame)))
        return labels

    def guesses(self, _grids: Grids, _seed: int) -> Iterator[tuple[str, Array]]:
        """What knows nothing of later frames gets: the first frame's mask held still."""
        still = []
        for video in self.videos:
            first = self._labels(video.frame_ids[0])
            still.append(self._score(video, repeat([first]), 1))
        yield "first mask held still", np.concatenate(still, axis=1)

    def unseen(self, grids: Grids) -> Array:
        """(object, 2): pixels of its scored frames outside the grid's cover, and all of them."""
        counts = []
        for video in self.videos:
            pixels = [
                pixels_unseen(grids[frame], self.sizes[frame]) for frame in video.frame_ids[1:-1]
            ]
            counts += [np.sum(pixels, axis=0)] * video.n_objects
        return np.array(counts)

    def only(self, images: Collection[str]) -> None:
        """The sequences that have one of these frames, whole."""
        self._saved = [
            video for video in self.videos if not set(images).isdisjoint(video.frame_ids)
        ]

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """<sequence>/<frame>.png as the annotations: the first one's own, void as background, then
        what follows.
        """
        for video in self._saved:
            first = self.dataset.label_map(video.frame_ids[0])
            save_labels(folder / f"{video.frame_ids[0]}.png", np.where(first == VOID, 0, first))
            for frame, soft in self._propagate(layer, video):
                save_labels(folder / f"{frame.id}.png", index_mask(soft[index], frame))
        return [
            {"file": f"{frame}.png", "image": frame}
            for video in self._saved
            for frame in video.frame_ids
        ]

    def given(self) -> set[str]:
        """First frames, whose masks are propagated."""
        return {video.frame_ids[0] for video in self.videos}

    def examples(self, count: int) -> list[str]:
        """Frames of the first sequence, which is propagated whole, without the given one."""
        return spread(self.videos[0].frame_ids[1:], count)

    def truth(self, record: Row) -> Array | None:
        """Object ids, None where the frame has no annotation."""
        return (
            self.dataset.label_map(record["image"])
            if self.dataset.has_label_map(record["image"])
            else None
        )

    def _propagate(self, layer: Layer, video: Video) -> Iterator[tuple[GridImage, Tensor]]:
        """Each frame after the first and its soft masks (head, object + 1, token), background
        first.
        """
        from kvtool.features.propagation import Context, Rule

        # The nearest token of the last frame and of frame 0 is the same rule with one neighbor.
        rule = Rule() if self.propagation == "dino" else Rule(last_frames=1, radius=10**6, top=1)
        frames = (layer.get([name])[name] for name in video.frame_ids)
        first = last = next(frames)
        soft = self._first_masks(first, video).expand(len(layer.heads), -1, -1)
        context = Context(first.stored, soft, first.grid, rule)
        for frame in frames:
            # Frames of a video that share their tokens share their masks.
            if frame.shares_tokens(last):
                yield frame, soft
                continue
            if frame.grid != first.grid:
                raise DatasetError(
                    f"frame {frame.id}: expected {first.grid[0]} x {first.grid[1]} tokens as the "
                    "sequence's first, "
                    f"found {frame.grid[0]} x {frame.grid[1]}; frames of a sequence are of one size"
                )
            soft = context.propagate(frame.stored)
            yield frame, soft
            context.add(frame.stored, soft)
            last = frame

    def _first_masks(self, first: GridImage, video: Video) -> Tensor:
        """(1, object + 1, token) one-hot: the id of the pixel under each patch's centre, as
        nearest-neighbour resizing takes it; a void pixel is in no channel.
        """
        import torch

        labels = self.dataset.label_map(first.id)
        # The pixel under a patch's center; where the grid reaches beyond the picture, the border's.
        x, y = first.centres_px().T.astype(int)
        center_labels = labels[
            np.clip(y, 0, labels.shape[0] - 1), np.clip(x, 0, labels.shape[1] - 1)
        ]
        one_hot = (center_labels == np.arange(video.n_objects + 1)[:, None]).astype(np.float32)
        return torch.from_numpy(one_hot).to(self.device)[None]

    def tables(self, measured: Array) -> Iterator[Table]:
        """Yield the summary over all objects, then a table for each object."""
        # Objects of a sequence share its frames.
        sequences = np.array([video for video, _ in self.objects])
        yield Table({}, measured, davis_scores, clusters=sequences)
        for index, (video, number) in enumerate(self.objects):
            yield Table(
                {"object": f"{video}_{number}"},
                measured[:, index : index + 1],
                davis_scores,
                members=np.array([index]),
            )


def check_video(dataset: HasVideos, video: Video, ids: Sizes) -> None:
    """Raises DatasetError where a sequence cannot be scored.

    Its frames are of one size, and the annotations of the first and of those that are scored can be
    used.
    """
    if len(video.frame_ids) < 3:
        raise DatasetError(f"sequence {video.name}: expected a frame between its ends, found none")
    first = ids[video.frame_ids[0]]
    scored = video.frame_ids[:-1]
    for frame in scored:
        check_shape(dataset.label_map(frame), ids[frame], str(dataset.truth_file(frame)))
    for frame in video.frame_ids:
        if ids[frame] != first:
            raise DatasetError(
                f"sequence {video.name}: expected frames of one size, {first[0]} x {first[1]}, "
                f"found {frame} of "
                f"{ids[frame][0]} x {ids[frame][1]}"
            )


def index_mask(soft: Tensor, frame: GridImage) -> Array:
    """(height, width) object ids of one head's soft masks (channel, token): upsampled bilinearly,
    each channel stretched to 0 .. 1 (a constant one to 0), the greatest taken; the lowest of
    equals, so background first.
    """
    import torch

    # Stretched per object, as DINO does, so that a faint mask is as likely to win as a strong one.
    dense = upsample(soft, frame.span, frame.wh_px)
    low, high = dense.amin((1, 2), keepdim=True), dense.amax((1, 2), keepdim=True)
    stretched = torch.where(high > low, (dense - low) / (high - low).clamp_min(1e-30), 0.0)
    return stretched.argmax(0).cpu().numpy()

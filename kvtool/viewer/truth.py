"""What a data set says of a run's images: pairs with keypoints, and videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvtool.datasets.protocols import HasPairs, HasVideos
from kvtool.datasets.spair71k import Pair
from kvtool.errors import KvtoolError
from kvtool.metrics.correspondence import box_side_px
from kvtool.types import VIDEO
from kvtool.viewer.viewed_run import ViewedRun

ALPHA = 0.1
"""The circle around a true point: this share of the longer side of the object's box."""


def pairs_record(viewed: ViewedRun) -> dict[str, Any]:
    """Return the pairs of which the run holds both images, or a note that says why there are
    none.
    """
    try:
        dataset = viewed.need_dataset()
        if not isinstance(dataset, HasPairs):
            return {"pairs": [], "note": f"{dataset.name} has no pairs with keypoints"}
        pairs: Sequence[Pair] = dataset.pairs()
    except KvtoolError as error:
        return {"pairs": [], "note": str(error)}
    return {
        "alpha": ALPHA,
        "pairs": [
            pair_record(pair)
            for pair in pairs
            if pair.src_id in viewed.samples and pair.trg_id in viewed.samples
        ],
    }


def pair_record(pair: Pair) -> dict[str, Any]:
    """Return a pair as JSON values, with the radius of its circle."""
    return {
        "pair": pair.id,
        "source": pair.src_id,
        "target": pair.trg_id,
        "source_px": pair.src_kps_px,
        "target_px": pair.trg_kps_px,
        "names": pair.kps_ids,
        "radius_px": ALPHA * box_side_px(pair.trg_box_xyxy_px),
    }


def videos_record(viewed: ViewedRun) -> dict[str, Any]:
    """Return the videos of a run and the frames of each that it holds, in order."""
    if viewed.run.config.view == VIDEO:
        return {
            "videos": [
                {"video": sample.id, "frames": [frame.id for frame in sample.frames]}
                for sample in viewed.run.samples
            ]
        }
    try:
        dataset = viewed.need_dataset()
        if not isinstance(dataset, HasVideos):
            return {"videos": [], "note": f"{dataset.name} has no videos"}
        videos = dataset.videos()
    except KvtoolError as error:
        return {"videos": [], "note": str(error)}
    # A single frame is no video to play.
    frames_of = {
        video.name: [frame for frame in video.frame_ids if frame in viewed.samples]
        for video in videos
    }
    return {
        "videos": [
            {"video": name, "frames": frames}
            for name, frames in frames_of.items()
            if len(frames) > 1
        ]
    }

"""Temporal correspondence on DAVIS-2017 (protocol 6): the first frame's masks, propagated as DINO does.

A token's soft mask is the weighted mean of those of its five nearest context tokens: of frame 0 and the seven frames
before, by exp(cosine / 0.1), within 12 patches in each direction. `propagation="nearest"` copies the nearest token of
frame 0 and the last frame. Predicted masks are upsampled, stretched per object, and scored by the official rules.

Memory: eight frames of a sequence, and one frame's affinities with them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kvtool.datasets.davis import Davis, Video
from kvtool.errors import DatasetError, KvtoolError, UsageError
from kvtool.metrics.video import boundary_accuracy, davis_scores, davis_units, region_similarity
from kvtool.probes.base import Array, Table
from kvtool.probes.layers import GridImage, Layer, upsample
from kvtool.types import KINDS, Kind

PROPAGATIONS = ("dino", "nearest")


@dataclass(frozen=True)
class Rule:
    """How masks travel: context frames before the current one besides frame 0, patches in each direction, how many
    neighbours, and the temperature of their weights."""

    last_frames: int = 7
    radius: int = 12
    top: int = 5
    temperature: float = 0.1


class TemporalCorrespondence:
    name: ClassVar[str] = "temporal-correspondence"
    metric: ClassVar[str] = "j_and_f"
    kinds: ClassVar[tuple[Kind, ...]] = KINDS

    def __init__(
        self,
        dataset: Davis,
        ids: set[str],
        device: torch.device,
        *,
        limit: int | None = None,
        propagation: str = "dino",
    ) -> None:
        if propagation not in PROPAGATIONS:
            raise UsageError(f"{self.name}: propagation is {' or '.join(PROPAGATIONS)}, not {propagation!r}")
        self.dataset, self.device, self.propagation, self.limit = dataset, device, propagation, limit
        self.rule = Rule() if propagation == "dino" else Rule(last_frames=1, radius=10**6, top=1)
        videos = dataset.videos()
        self.skipped = list(dataset.skipped)
        whole = [video for video in videos if set(video.frame_ids) <= ids]
        scored = [v for v in whole if len(v.frame_ids) > 2 and all(map(dataset.has_label_map, v.frame_ids[1:-1]))]
        if len(whole) < len(videos):
            self.skipped.append(f"{len(videos) - len(whole)} sequences have frames that the run does not hold")
        if len(scored) < len(whole):
            self.skipped.append(f"{len(whole) - len(scored)} sequences lack annotations of frames that are scored")
        self.n_skipped = len(videos) - len(scored)
        self.videos = scored[:limit]
        if not self.videos:
            raise KvtoolError(f"{self.name}: the run holds all frames of none of {len(videos)} sequences: extract more")
        self.objects = [(video.name, number) for video in self.videos for number in range(1, video.n_objects + 1)]
        self.n = len(self.objects)

    def settings(self) -> dict[str, Any]:
        return {"propagation": self.propagation, "limit": self.limit}

    def images(self) -> set[str]:
        return {frame for video in self.videos for frame in video.frame_ids}

    def measure(self, layer: Layer) -> Array:
        """(head, object, 7): davis_units of every object of every sequence."""
        return np.concatenate([self._measure_video(layer, video) for video in self.videos], axis=1)

    def _measure_video(self, layer: Layer, video: Video) -> Array:
        scored = len(video.frame_ids) - 2
        j, f = np.zeros((2, len(layer.heads), video.n_objects, scored))
        for index, (frame, soft) in enumerate(self._propagate(layer, video)):
            if index >= scored:
                break
            truth = self.dataset.label_map(frame.id)
            if truth.shape != frame.wh_px[::-1]:
                raise DatasetError(
                    f"annotation of {frame.id}: expected {frame.wh_px[0]} x {frame.wh_px[1]} pixels as its frame, "
                    f"found {truth.shape[1]} x {truth.shape[0]}; download both again"
                )
            for head in range(len(layer.heads)):
                said = index_mask(soft[head], frame)
                for number in range(1, video.n_objects + 1):
                    pair = said == number, truth == number
                    j[head, number - 1, index] = region_similarity(*pair)
                    f[head, number - 1, index] = boundary_accuracy(*pair)
        return davis_units(j, f)

    def _propagate(self, layer: Layer, video: Video) -> Iterator[tuple[GridImage, Tensor]]:
        """Each frame after the first and its soft masks (head, object + 1, token), background first."""
        frames = (layer.get([name])[name] for name in video.frame_ids)
        first = next(frames)
        masks = self._first_masks(first, video).expand(len(layer.heads), -1, -1)
        origin = (normalize(first.values, dim=-1), masks, first.grid)
        context: deque[tuple[Tensor, Tensor, tuple[int, int]]] = deque(maxlen=self.rule.last_frames)
        for frame in frames:
            unit = normalize(frame.values, dim=-1)
            soft = propagate(unit, frame.grid, [origin, *context], self.rule)
            yield frame, soft
            context.append((unit, soft, frame.grid))

    def _first_masks(self, first: GridImage, video: Video) -> Tensor:
        """(1, object + 1, token) one-hot: the id of the pixel under each patch's centre, as nearest-neighbour resizing
        takes it; a void pixel is in no channel."""
        labels = self.dataset.label_map(first.id)
        x, y = first.centres_px().T.astype(int)
        at = labels[np.clip(y, 0, labels.shape[0] - 1), np.clip(x, 0, labels.shape[1] - 1)]
        one_hot = (at == np.arange(video.n_objects + 1)[:, None]).astype(np.float32)
        return torch.from_numpy(one_hot).to(self.device)[None]

    def tables(self, measured: Array) -> Iterator[Table]:
        yield Table({}, measured, davis_scores)
        for index, (video, number) in enumerate(self.objects):
            yield Table({"object": f"{video}_{number}"}, measured[:, index : index + 1], davis_scores)


def propagate(
    unit: Tensor, grid: tuple[int, int], context: list[tuple[Tensor, Tensor, tuple[int, int]]], rule: Rule
) -> Tensor:
    """Soft masks (head, channel, token) of a frame of unit vectors (head, token, dim) from context frames, each
    (unit vectors, soft masks, grid): the weighted mean over the `top` context tokens of all frames jointly, and
    those as near as the last of them."""
    affinity = torch.cat([_near(unit, grid, other, other_grid, rule) for other, _, other_grid in context], dim=2)
    masks = torch.cat([soft for _, soft, _ in context], dim=2)
    best = torch.topk(affinity, min(rule.top + 1, affinity.shape[2]), dim=2)
    if rule.top > 1 and best.values.shape[2] > rule.top and _tied(best.values, rule.top):
        kept = torch.where(affinity >= best.values[:, :, rule.top - 1, None], affinity, -torch.inf)
        return torch.bmm(masks, torch.softmax(kept / rule.temperature, dim=2).transpose(1, 2))
    scores, indices = best.values[:, :, : rule.top], best.indices[:, :, : rule.top]
    weights = torch.softmax(scores / rule.temperature, dim=2)
    heads, tokens, top = indices.shape
    at = indices.reshape(heads, 1, tokens * top).expand(-1, masks.shape[1], -1)
    return (torch.gather(masks, 2, at).reshape(heads, -1, tokens, top) * weights[:, None]).sum(3)


def _tied(values: Tensor, top: int) -> bool:
    """Whether some token's neighbour after the last is exactly as near."""
    return bool((values[:, :, top - 1] == values[:, :, top]).any())


def _near(unit: Tensor, grid: tuple[int, int], other: Tensor, other_grid: tuple[int, int], rule: Rule) -> Tensor:
    """(head, token, other token) cosine; -inf beyond the radius."""
    cosine = torch.bmm(unit, other.transpose(1, 2))
    if rule.radius >= max(*grid, *other_grid):
        return cosine
    rows, cols = (
        (torch.arange(a, device=unit.device)[:, None] - torch.arange(b, device=unit.device)).abs() <= rule.radius
        for a, b in zip(grid, other_grid, strict=True)
    )
    near = rows[:, None, :, None] & cols[None, :, None, :]
    return cosine.masked_fill_(~near.reshape(cosine.shape[1:]), -torch.inf)


def index_mask(soft: Tensor, frame: GridImage) -> Array:
    """(height, width) object ids of one head's soft masks (channel, token): upsampled bilinearly, each channel
    stretched to 0 .. 1 (a constant one to 0), the greatest taken; the lowest of equals, so background first."""
    dense = upsample(soft, frame.span, frame.wh_px)
    low, high = dense.amin((1, 2), keepdim=True), dense.amax((1, 2), keepdim=True)
    stretched = torch.where(high > low, (dense - low) / (high - low).clamp_min(1e-30), 0.0)
    return stretched.argmax(0).cpu().numpy()

"""Stage 2: the vision tower, on captions (SigLIP's sigmoid loss) and dense maps of what is shown.

The small text tower and the dense heads are thrown away afterwards.
"""

from __future__ import annotations

import math
from functools import cache
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SiglipVisionModel

from kvtool.demo.language import caption, vocabulary
from kvtool.demo.shapes import part_names
from kvtool.demo.training.batches import draws, padded
from kvtool.demo.training.config import GRID, IMAGE_TOKENS, VISION_DIM, TrainingSettings
from kvtool.demo.training.data import Collection, World
from kvtool.demo.training.precision import autocast
from kvtool.demo.training.text import encode
from kvtool.demo.world import COLORS, SETTINGS, SIZES, STYLES, TEXTURES, TIMES, Scene, categories

CAPTION_TOKENS = 60
EMBEDDING = 96
Labels = npt.NDArray[np.int64]


def pixels(images: npt.NDArray[np.uint8]) -> Tensor:
    """Turn images (B, 96, 96, 3) uint8 into values (B, 3, 96, 96) from -1 to 1.

    The image processor does the same: it divides by 255 and normalizes by mean and deviation 0.5.
    """
    channels_first = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return channels_first.float().div(127.5).sub(1)


@cache
def _index(values: tuple[str, ...]) -> dict[str, int]:
    return {value: index for index, value in enumerate(values)}


def patch_targets(scenes: list[Scene], patches: npt.NDArray[np.uint8]) -> dict[str, Tensor]:
    """Return the target of each dense head, (B, 144).

    They are category, color, texture and size (0 is background, other values are index + 1), part,
    middle (0 or 1), row and column (from 1). The patches are (B, 3, 12, 12).
    """
    attributes = {
        "category": categories(),
        "color": tuple(COLORS),
        "texture": TEXTURES,
        "size": SIZES,
    }
    targets: dict[str, Tensor] = {}
    seen, part, middle = patches.reshape(len(scenes), 3, IMAGE_TOKENS).swapaxes(0, 1)
    for name, values in attributes.items():
        # A table from the number of a thing to its value, for each scene.
        ids = np.zeros((len(scenes), 256), dtype=np.int64)
        for row, scene in enumerate(scenes):
            for index, thing in enumerate(scene.things):
                ids[row, index + 1] = _index(values)[getattr(thing, name)] + 1
        targets[name] = torch.from_numpy(np.take_along_axis(ids, seen.astype(np.int64), axis=1))
    targets["part"] = torch.from_numpy(part.astype(np.int64))
    targets["middle"] = torch.from_numpy((middle > 0).astype(np.int64))
    rows, columns = torch.meshgrid(torch.arange(GRID) + 1, torch.arange(GRID) + 1, indexing="ij")
    targets["row"] = rows.reshape(1, -1).expand(len(scenes), -1)
    targets["column"] = columns.reshape(1, -1).expand(len(scenes), -1)
    return targets


def scene_targets(scenes: list[Scene]) -> dict[str, Tensor]:
    """Return the targets of setting, time and style, each (B,)."""
    targets = {}
    for name, values in {"setting": SETTINGS, "time": TIMES, "style": STYLES}.items():
        ids = [_index(values)[getattr(scene, name)] for scene in scenes]
        targets[name] = torch.tensor(ids)
    return targets


PATCH_CLASSES = {
    "category": len(categories()) + 1,
    "color": len(COLORS) + 1,
    "texture": len(TEXTURES) + 1,
    "size": len(SIZES) + 1,
    "part": len(part_names()) + 1,
    "middle": 2,
    "row": GRID + 1,
    "column": GRID + 1,
}
"""The number of classes of each dense head. Without row and column a tower forgets columns."""
HEAD_WEIGHTS = {"part": 0.5, "middle": 0.5, "row": 0.5, "column": 0.5}
BACKGROUND_WEIGHT = 0.15
"""Background fills most patches: this much of its weight is enough, also for rows and columns."""
LOGGED_HEADS = ("category", "color", "part", "column")
SCENE_CLASSES = {"setting": len(SETTINGS), "time": len(TIMES), "style": len(STYLES)}


class TowerHeads(nn.Module):
    """What the tower is trained with and does without afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(VISION_DIM, sum(PATCH_CLASSES.values()))
        self.scene = nn.Linear(VISION_DIM, sum(SCENE_CLASSES.values()))
        self.image = nn.Linear(VISION_DIM, EMBEDDING)
        self.words = nn.Embedding(len(vocabulary()), EMBEDDING)
        self.text_layers = nn.TransformerEncoderLayer(
            EMBEDDING, 4, 2 * EMBEDDING, 0.0, batch_first=True, norm_first=True
        )
        self.text = nn.Linear(EMBEDDING, EMBEDDING)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-4.0))

    def contrast(self, features: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        """Compute SigLIP's loss: every pair of image and caption is a yes/no question.

        Args:
            features: (B, 144, dim) of the images.
            ids: The captions' tokens (B, length).
            lengths: The captions' true lengths (B,).
        """
        real = torch.arange(ids.shape[1])[None] < lengths[:, None]
        states = self.text_layers(self.words(ids), src_key_padding_mask=~real)
        pooled = (states * real[..., None]).sum(1) / lengths[:, None]
        image = F.normalize(self.image(features.mean(1)), dim=-1)
        logits = image @ F.normalize(self.text(pooled), dim=-1).T * self.log_scale.exp() + self.bias
        sign = 2 * torch.eye(len(ids)) - 1
        return -F.logsigmoid(sign * logits.float()).sum() / len(ids)


def look(model: SiglipVisionModel, values: Tensor) -> Tensor:
    """Compute the features (B, 144, 96) of values (B, 3, 96, 96).

    They are the last layer's output before the last norm, as the joint model reads it.
    """
    output = model(pixel_values=values, output_hidden_states=True)
    features: Tensor = output.hidden_states[-1]
    return features


class VisionStage:
    """The stage of tower and heads on random batches of scenes."""

    def __init__(
        self, tower: SiglipVisionModel, heads: TowerHeads, world: World, settings: TrainingSettings
    ):
        self.tower = tower
        self.heads = heads
        self.world = world
        self.settings = settings
        self._run = torch.compile(self._dense, dynamic=False) if settings.compiled else self._dense

    def _dense(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with autocast():
            features = look(self.tower, values)
            return features, self.heads.patch(features), self.heads.scene(features.mean(1))

    def batch(self, collection: Collection, indices: list[int]) -> tuple[list[Scene], Tensor]:
        """Return scenes of a collection and their values (B, 3, 96, 96)."""
        scenes = [cast(Scene, collection.items[index]) for index in indices]
        return scenes, pixels(collection.images[indices])

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the loss of a random batch, and the share of right patches of some heads."""
        pool = self.world.scenes
        indices = sorted(draws(rng, len(pool), self.settings.tower_batch))
        scenes, values = self.batch(pool, indices)
        features, patch_logits, scene_logits = self._run(values)
        total, report = _dense_loss(patch_logits, patch_targets(scenes, pool.patches[indices]))
        # Place, time and style of the whole picture.
        by_head = torch.split(scene_logits.float(), list(SCENE_CLASSES.values()), dim=-1)
        for name, logits in zip(SCENE_CLASSES, by_head, strict=True):
            total = total + 0.2 * F.cross_entropy(logits, scene_targets(scenes)[name])
        # The contrast of pictures and captions, in SigLIP's manner.
        captions = [list(encode(caption(scene, rng)))[:CAPTION_TOKENS] for scene in scenes]
        ids, lengths, _ = padded(captions, CAPTION_TOKENS)
        contrast = self.heads.contrast(features.float(), ids, lengths)
        return {"loss": total + 0.3 * contrast, "contrast": contrast.detach(), **report}


def _dense_loss(
    patch_logits: Tensor, targets: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum the cross-entropy of all dense heads over the logits (B, 144, classes of all heads).

    The report has the share of right patches on things.
    """
    total = torch.zeros(())
    report = {}
    # Most patches are background: they weigh less.
    inside = targets["category"] > 0
    weight = torch.where(inside, 1.0, BACKGROUND_WEIGHT)
    by_head = torch.split(patch_logits.float(), list(PATCH_CLASSES.values()), dim=-1)
    for name, logits in zip(PATCH_CLASSES, by_head, strict=True):
        target = targets[name]
        losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        mean = HEAD_WEIGHTS.get(name, 1.0) * (losses * weight.flatten()).sum() / weight.sum()
        total = total + mean
        if name in LOGGED_HEADS:
            report[name] = (logits.argmax(-1) == target)[inside].float().mean()
    return total, report


__all__ = ["GRID", "Labels", "TowerHeads", "VisionStage", "look", "patch_targets", "pixels"]

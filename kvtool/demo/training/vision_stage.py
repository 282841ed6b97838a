"""Stage 2: the vision tower alone: SigLIP's sigmoid loss on captions, and dense maps of what each patch shows.

The small text tower and the dense heads are thrown away afterwards.
"""

from __future__ import annotations

import math
from functools import cache

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
from kvtool.demo.training.text import encode
from kvtool.demo.world import COLORS, PLACES, SIZES, STYLES, TEXTURES, TIMES, Scene, categories

CAPTION_TOKENS = 60
EMBEDDING = 96
Labels = npt.NDArray[np.int64]


def pixels(images: npt.NDArray[np.uint8]) -> Tensor:
    """(B, 96, 96, 3) uint8 -> (B, 3, 96, 96) in -1..1: rescale 1/255, mean and deviation 0.5."""
    return (
        torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    )


@cache
def _index(values: tuple[str, ...]) -> dict[str, int]:
    return {value: index for index, value in enumerate(values)}


def patch_targets(scenes: list[Scene], patches: npt.NDArray[np.uint8]) -> dict[str, Tensor]:
    """Per head (B, 144): category, color, texture, size (0 = background, else index + 1), part, middle (0 or 1),
    row and column (from 1)."""
    attributes = {
        "category": categories(),
        "color": tuple(COLORS),
        "texture": TEXTURES,
        "size": SIZES,
    }
    found: dict[str, Tensor] = {}
    seen = patches[:, 0].reshape(len(scenes), IMAGE_TOKENS)
    for name, values in attributes.items():
        ids = np.zeros((len(scenes), 256), dtype=np.int64)
        for row, scene in enumerate(scenes):
            for index, thing in enumerate(scene.things):
                ids[row, index + 1] = _index(values)[getattr(thing, name)] + 1
        found[name] = torch.from_numpy(np.take_along_axis(ids, seen.astype(np.int64), axis=1))
    found["part"] = torch.from_numpy(
        patches[:, 1].reshape(len(scenes), IMAGE_TOKENS).astype(np.int64)
    )
    found["middle"] = torch.from_numpy(
        (patches[:, 2].reshape(len(scenes), IMAGE_TOKENS) > 0).astype(np.int64)
    )
    rows, columns = torch.meshgrid(torch.arange(GRID) + 1, torch.arange(GRID) + 1, indexing="ij")
    found["row"] = rows.reshape(1, -1).expand(len(scenes), -1)
    found["column"] = columns.reshape(1, -1).expand(len(scenes), -1)
    return found


def scene_targets(scenes: list[Scene]) -> dict[str, Tensor]:
    """Per head (B,): place, time, style."""
    values = {"place": PLACES, "time": TIMES, "style": STYLES}
    return {
        name: torch.tensor([_index(options)[getattr(scene, name)] for scene in scenes])
        for name, options in values.items()
    }


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
"""Classes of each dense head. Row and column of a patch are asked for too: a tower left to itself forgets columns."""
HEAD_WEIGHTS = {"part": 0.5, "middle": 0.5, "row": 0.5, "column": 0.5}
SCENE_CLASSES = {"place": len(PLACES), "time": len(TIMES), "style": len(STYLES)}


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
        """SigLIP's loss: every (image, caption) pair of the batch is a yes/no question."""
        real = torch.arange(ids.shape[1])[None] < lengths[:, None]
        words = self.text_layers(self.words(ids), src_key_padding_mask=~real)
        pooled = (words * real[..., None]).sum(1) / lengths[:, None]
        image = F.normalize(self.image(features.mean(1)), dim=-1)
        logits = image @ F.normalize(self.text(pooled), dim=-1).T * self.log_scale.exp() + self.bias
        sign = 2 * torch.eye(len(ids)) - 1
        return -F.logsigmoid(sign * logits.float()).sum() / len(ids)


def look(model: SiglipVisionModel, values: Tensor) -> Tensor:
    """(B, 3, 96, 96) -> (B, 144, 96): the last layer's output before the last norm, as the joint model reads it."""
    output = model(pixel_values=values, output_hidden_states=True)
    features: Tensor = output.hidden_states[-1]
    return features


class VisionStage:
    """Tower and heads on random batches of scenes."""

    def __init__(
        self, tower: SiglipVisionModel, heads: TowerHeads, world: World, settings: TrainingSettings
    ):
        self.tower, self.heads, self.world, self.settings = tower, heads, world, settings
        self._run = torch.compile(self._dense, dynamic=False) if settings.compiled else self._dense

    def _dense(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = look(self.tower, values)
            return features, self.heads.patch(features), self.heads.scene(features.mean(1))

    def batch(self, collection: Collection, indices: list[int]) -> tuple[list[Scene], Tensor]:
        scenes = [
            scene
            for scene in (collection.items[index] for index in indices)
            if isinstance(scene, Scene)
        ]
        return scenes, pixels(collection.images[indices])

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        pool = self.world.scenes
        indices = sorted(draws(rng, len(pool), self.settings.tower_batch))
        scenes, values = self.batch(pool, indices)
        features, by_patch, by_scene = self._run(values)
        targets = patch_targets(scenes, pool.patches[indices])
        total, report = torch.zeros(()), {}
        for name, logits in zip(
            PATCH_CLASSES,
            torch.split(by_patch.float(), list(PATCH_CLASSES.values()), dim=-1),
            strict=True,
        ):
            wanted = targets[name]
            # Background fills most patches: a tenth of its weight is enough, also for rows and columns.
            weight = torch.where(targets["category"] > 0, 1.0, 0.15)
            each = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
            total = (
                total + HEAD_WEIGHTS.get(name, 1.0) * (each * weight.flatten()).sum() / weight.sum()
            )
            if name in ("category", "color", "part", "column"):
                inside = targets["category"] > 0
                report[name] = (logits.argmax(-1) == wanted)[inside].float().mean()
        for name, logits in zip(
            SCENE_CLASSES,
            torch.split(by_scene.float(), list(SCENE_CLASSES.values()), dim=-1),
            strict=True,
        ):
            total = total + 0.2 * F.cross_entropy(logits, scene_targets(scenes)[name])
        ids, lengths, _ = padded(
            [list(encode(caption(scene, rng)))[:CAPTION_TOKENS] for scene in scenes], CAPTION_TOKENS
        )
        contrast = self.heads.contrast(features.float(), ids, lengths)
        return {"loss": total + 0.3 * contrast, "contrast": contrast.detach(), **report}


__all__ = ["GRID", "Labels", "TowerHeads", "VisionStage", "look", "patch_targets", "pixels"]

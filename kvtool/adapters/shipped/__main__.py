"""`python -m kvtool.adapters.shipped NAME OUT` trains an adapter that is shipped, and says
what it answers.

A second call goes on where the first one stopped. The one for SmolLM2 takes an hour on one core
with bfloat16 instructions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kvtool.adapters.examples import Exchange, examples
from kvtool.adapters.folder import begin, finish, joined, load_adapter, put
from kvtool.adapters.starts import random_layer, ridge_layer
from kvtool.adapters.training import Recipe, mean_loss, train_layer
from kvtool.demo.training.data import Collection, draw, draw_scene
from kvtool.adapters.shipped.scenes import (
    WHAT,
    features,
    patch_words,
    scene_exchanges,
    scenes_of,
    short_caption,
)
from kvtool.models.adapters import AdapterSettings
from kvtool.models.families.linear_adapter import LinearAdapter

TOWER = "demo-tower"
TOWER_LAYER = 3
LOG_STEPS = 20
SAVE_STEPS = 50


@dataclass(frozen=True)
class AdapterRun:
    """One of the adapters that are shipped.

    Attributes:
        language: The language model.
        pool: Patches are averaged over squares of so many a side.
        scenes: Scenes to draw for training.
        held_out: Scenes to draw for the figures.
        start: ridge or random.
        recipe: How it is trained.
    """

    language: str
    pool: int
    scenes: int
    held_out: int
    start: str
    recipe: Recipe


RUNS = {
    "smollm2": AdapterRun("smollm2", 2, 6_000, 500, "ridge", Recipe(1_750, learning_rate=3e-3)),
}


def train(run: AdapterRun, out: Path, seed: int = 0) -> LinearAdapter:
    """Train an adapter in OUT/adapter and return its model."""
    folder = out / "adapter"
    settings = AdapterSettings(joined(run.language), joined(TOWER), TOWER_LAYER, run.pool)
    begin(folder, settings)
    # The gradient of the fused attention is several times slower on a CPU.
    model = load_adapter(folder, attention="eager")
    pictures = draw(out / "scenes", run.scenes, (seed, 31), draw_scene)
    tokens = stored_features(out / "features.pt", model, pictures)
    exchanges = scene_exchanges(scenes_of(pictures), seed)
    if run.start == "ridge":
        targets, weights = patch_words(model, scenes_of(pictures), pictures.patches)
        put(model, ridge_layer([(tokens, targets, weights)]))
    else:
        put(model, random_layer(model, tokens, seed))
    log = Log(out / "log.txt")
    layer = train_layer(
        model,
        tokens,
        examples(model, exchanges),
        run.recipe,
        checkpoint=out / "checkpoint.pt",
        save_steps=SAVE_STEPS,
        report=log.report,
    )
    finish(folder, settings, layer, {})
    put(model, layer)
    return model


def stored_features(path: Path, model: LinearAdapter, pictures: Collection) -> torch.Tensor:
    """Return the features of drawings, computed once."""
    if not path.exists():
        torch.save(features(model, pictures.images), path)
    tokens: torch.Tensor = torch.load(path, weights_only=True)
    return tokens


class Log:
    """A line every few steps: steps, CPU seconds, the mean loss since the last line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses: list[float] = []

    def report(self, step: int, loss: float) -> None:
        """Note the loss of a step."""
        self.losses.append(loss)
        if step % LOG_STEPS == 0:
            mean = sum(self.losses) / len(self.losses)
            with self.path.open("a") as file:
                file.write(f"{step}\t{time.process_time():.0f}\t{mean:.4f}\n")
            self.losses = []


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the adapter that the arguments name, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m kvtool.adapters.shipped", description=__doc__
    )
    parser.add_argument("name", choices=RUNS, help="which adapter")
    parser.add_argument("out", type=Path, help="folder of the run: drawings, checkpoint, adapter")
    options = parser.parse_args(arguments)
    train(RUNS[options.name], options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

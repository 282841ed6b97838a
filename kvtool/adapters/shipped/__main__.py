"""`python -m kvtool.adapters.shipped NAME OUT` trains an adapter that is shipped, and says what its
model answers.

A second call goes on where the first one stopped. The one for SmolLM2 takes an hour on one core
with bfloat16 instructions, the one for the demo's decoder ten minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from kvtool.adapters.examples import Exchange, examples
from kvtool.adapters.folder import begin, finish, joined, load_adapter, put
from kvtool.adapters.shipped.card import card, training_facts
from kvtool.adapters.shipped.figures import figures
from kvtool.adapters.shipped.scenes import (
    LIST,
    WHAT,
    demo_exchanges,
    demo_symbols,
    features,
    patch_words,
    plain_captions,
    scene_exchanges,
    scenes_of,
)
from kvtool.adapters.starts import ridge_layer
from kvtool.adapters.training import AdapterRecipe, train_layer
from kvtool.demo.training.data import Bytes, Collection, draw, draw_scene
from kvtool.demo.world import Scene
from kvtool.models.adapters import AdapterSettings
from kvtool.models.families.linear_adapter import LinearAdapter

TOWER = "demo-tower"
TOWER_LAYER = 3
SEED = 0
LOG_STEPS = 20
Exchanges = Callable[[Sequence[Scene], int], list[Exchange]]
Targets = Callable[[LinearAdapter, Sequence[Scene], Bytes], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class AdapterRun:
    """One of the adapters that are shipped.

    Attributes:
        language: The language model.
        pool: Patches are averaged over squares of so many a side.
        scenes: Scenes to draw for training.
        held_out: Scenes to draw for the figures.
        exchanges: What is asked and answered of scenes in training.
        exam: The same of scenes that were held out.
        request: What captions are asked for by.
        targets: What the layer starts at: vectors for what tokens show, and what each counts.
        recipe: How it is trained.
    """

    language: str
    pool: int
    scenes: int
    held_out: int
    exchanges: Exchanges
    exam: Exchanges
    request: str
    targets: Targets
    recipe: AdapterRecipe


RUNS = {
    "smollm2": AdapterRun(
        *("smollm2", 2, 10_000, 300),
        *(scene_exchanges, plain_captions, WHAT),
        patch_words,
        AdapterRecipe(3_500, learning_rate=3e-3),
    ),
    "demo": AdapterRun(
        *("demo", 1, 1_500, 500),
        *(demo_exchanges, demo_exchanges, LIST),
        demo_symbols,
        AdapterRecipe(800, batch=16, learning_rate=5e-4),
    ),
}


def train(run: AdapterRun, out: Path) -> Path:
    """Train an adapter and return its folder, OUT/adapter."""
    folder = out / "adapter"
    settings = AdapterSettings(joined(run.language), joined(TOWER), TOWER_LAYER, run.pool)
    begin(folder, settings)
    # The gradient of the fused attention is several times slower on a CPU.
    model = load_adapter(folder, attention="eager")
    # A seed of their own: the scenes of the exam have another.
    pictures = draw(out / "scenes", run.scenes, (SEED, 31), draw_scene)
    tokens = stored_features(out / "features.pt", model, pictures)
    scenes = scenes_of(pictures)
    # The start: the layer that comes closest to the words for what tokens show.
    targets, counts = run.targets(model, scenes, pictures.patches)
    put(model, ridge_layer([(tokens, targets, counts)]))
    layer = train_layer(
        model,
        tokens,
        examples(model, run.exchanges(scenes, SEED)),
        run.recipe,
        checkpoint=out / "checkpoint.pt",
        report=Log(out / "log.txt").report,
    )
    finish(folder, settings, layer, training_facts(run.scenes, run.recipe))
    return folder


def assess(run: AdapterRun, out: Path, folder: Path) -> None:
    """Write what the adapter's model answers on scenes that were held out into its card."""
    held_out = draw(out / "held_out", run.held_out, (SEED, 41), draw_scene)
    exam = run.exam(scenes_of(held_out), SEED + 1)
    measured = figures(load_adapter(folder), held_out, exam, run.request)
    (out / "figures.json").write_text(json.dumps(asdict(measured), indent=1) + "\n")
    (folder / "MODEL_CARD.md").write_text(card(run.language, run.scenes, run.recipe, measured))


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
    parser = argparse.ArgumentParser(prog="python -m kvtool.adapters.shipped", description=__doc__)
    parser.add_argument("name", choices=RUNS, help="which adapter")
    parser.add_argument("out", type=Path, help="folder of the run: drawings, checkpoint, adapter")
    options = parser.parse_args(arguments)
    run = RUNS[options.name]
    assess(run, options.out, train(run, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())

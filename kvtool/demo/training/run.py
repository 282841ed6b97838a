"""All stages in order; a run that is cut short and resumed gives the same weights.

Step n of a stage draws its batch from (seed, stage, n) alone, and a checkpoint holds weights,
optimizer and step.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration

from kvtool.demo.training.config import TrainingSettings
from kvtool.demo.training.data import World, draw_world
from kvtool.demo.training.joint_stage import AlignStage, JointStage
from kvtool.demo.training.language_stage import GridStage, TextStage
from kvtool.demo.training.model import decoder, new_model, tower
from kvtool.demo.training.optimizer import Muon, schedule
from kvtool.demo.training.symbols import spread_opposites
from kvtool.demo.training.vision_stage import TowerHeads, VisionStage

STAGES = ("text", "grid", "tower", "align", "joint")
KEPT_FRACTIONS = (0.05, 0.2, 0.6)
"""Where along the joint training the three small checkpoints are taken."""
LOG_EVERY = 100


class Stage(Protocol):
    """What a stage computes at a step."""

    def loss(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute `loss`, which is descended, and other figures, which are logged."""
        ...


@dataclass
class TrainingJob:
    """A stage with what it trains and for how many steps.

    The extra modules are those that a checkpoint must hold besides the model.
    """

    stage: Stage
    optimizers: list[Muon]
    steps: int
    extra: nn.Module | None = None


class TrainingRun:
    """One training run in the folder `out`, which gets `world/`, `checkpoints/` and `log.jsonl`.

    Args:
        out: The folder.
        settings: Everything the run depends on.
        minutes: Stop after so long, at a checkpoint; by default run to the end.
    """

    def __init__(self, out: Path, settings: TrainingSettings, minutes: float | None = None):
        self.out = out
        self.settings = settings
        self.deadline = None if minutes is None else time.monotonic() + 60 * minutes
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.world: World = draw_world(out / "world", settings)
        self.model: LlavaOnevisionForConditionalGeneration = new_model(settings.seed)
        # The plain attention is the fastest backward pass on a CPU at 144 tokens.
        tower(self.model).set_attn_implementation("eager")

    def job(self, name: str) -> TrainingJob:
        """Return the stage's job on the present weights."""
        jobs: dict[str, Callable[[], TrainingJob]] = {
            "text": self._text,
            "grid": self._grid,
            "tower": self._tower,
            "align": self._align,
            "joint": self._joint,
        }
        return jobs[name]()

    def _optimizer(
        self, *modules: nn.Module, rate: float, extra: tuple[tuple[str, Tensor], ...] = ()
    ) -> Muon:
        parameters = [item for module in modules for item in module.named_parameters()]
        return Muon([*parameters, *extra], rate, 0.2 * rate)

    def _text(self) -> TrainingJob:
        optimizer = self._optimizer(decoder(self.model), rate=self.settings.learning_rate)
        return TrainingJob(
            TextStage(self.model, self.world, self.settings), [optimizer], self.settings.text_steps
        )

    def _newline(self) -> tuple[tuple[str, Tensor], ...]:
        return (("image_newline", self.model.model.image_newline),)

    def _grid(self) -> TrainingJob:
        optimizer = self._optimizer(
            decoder(self.model), rate=self.settings.learning_rate, extra=self._newline()
        )
        return TrainingJob(
            GridStage(self.model, self.world, self.settings), [optimizer], self.settings.grid_steps
        )

    def _tower(self) -> TrainingJob:
        torch.manual_seed(self.settings.seed + 1)
        heads = TowerHeads()
        optimizer = self._optimizer(tower(self.model), heads, rate=self.settings.tower_rate)
        stage = VisionStage(tower(self.model), heads, self.world, self.settings)
        return TrainingJob(stage, [optimizer], self.settings.tower_steps, heads)

    def _align(self) -> TrainingJob:
        projector = self.model.model.multi_modal_projector
        optimizer = Muon(
            [(f"layers.{name}", weight) for name, weight in projector.named_parameters()],
            0.02,
            0.002,
        )
        return TrainingJob(
            AlignStage(self.model, self.world, self.settings),
            [optimizer],
            self.settings.align_steps,
        )

    def _joint(self) -> TrainingJob:
        settings = self.settings
        model = self.model.model
        # Tower and projector are aligned already: fast steps would only blur what the decoder has
        # learned to read.
        optimizers = [
            self._optimizer(decoder(self.model), rate=settings.joint_rate, extra=self._newline()),
            self._optimizer(model.multi_modal_projector, rate=settings.joint_projector_rate),
            self._optimizer(tower(self.model), rate=settings.joint_tower_rate),
        ]
        return TrainingJob(
            JointStage(self.model, self.world, settings), optimizers, settings.joint_steps
        )

    def checkpoint(self, name: str) -> Path:
        """Return the path of a stage's checkpoint."""
        return self.out / "checkpoints" / f"{name}.pt"

    def load(self, name: str) -> None:
        """Load the model's weights from a checkpoint."""
        self.model.load_state_dict(torch.load(self.checkpoint(name), weights_only=True)["model"])

    def save(self, name: str, job: TrainingJob, step: int) -> None:
        """Write a checkpoint aside and rename it, so that it is complete whenever it exists."""
        # All that the next steps depend on: resumed, they give the same weights.
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in job.optimizers],
            "extra": job.extra.state_dict() if job.extra else None,
            "step": step,
        }
        path = self.checkpoint(name)
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)

    def resume(self, name: str, job: TrainingJob) -> int:
        """Load the stage's checkpoint, if any, and return the step to go on from."""
        if not self.checkpoint(name).exists():
            return 0
        state = torch.load(self.checkpoint(name), weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(job.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if job.extra:
            job.extra.load_state_dict(state["extra"])
        return int(state["step"])

    def stage(self, name: str) -> bool:
        """Run one stage from where it stands; return whether it came to its end."""
        job, step = self._prepared(name)
        sums: dict[str, list[float]] = defaultdict(list)
        started = time.monotonic()
        early_steps = {}
        if name == "joint":
            # Some moments of the joint training are kept, to show how a model comes to know.
            for number, fraction in enumerate(KEPT_FRACTIONS, start=1):
                early_steps[ceil(fraction * job.steps)] = number
        if step == job.steps == 0:
            self.save(name, job, step)
        while step < job.steps:
            if self.deadline and time.monotonic() > self.deadline:
                self.save(name, job, step)
                return False
            for key, value in self._descend(name, job, step).items():
                sums[key].append(float(value.detach()))
            step += 1
            finished = step == job.steps
            if step in early_steps:
                self.save(f"joint-{early_steps[step]}", job, step)
            if step % LOG_EVERY == 0 or finished:
                means = {key: float(np.mean(values)) for key, values in sums.items()}
                self.log(name, step, time.monotonic() - started, means)
                sums.clear()
            if step % self.settings.checkpoint_every == 0 or finished:
                self.save(name, job, step)
        return True

    def _prepared(self, name: str) -> tuple[TrainingJob, int]:
        """Return a stage's job and the step to go on from, on the weights of the stage before."""
        position = STAGES.index(name)
        if position:
            self.load(STAGES[position - 1])
        job = self.job(name)
        step = self.resume(name, job)
        if name == "grid" and step == 0:
            spread_opposites(decoder(self.model).embed_tokens.weight, self.settings.seed)
        return job, step

    def _descend(self, name: str, job: TrainingJob, step: int) -> dict[str, Tensor]:
        """Take one step, and return its figures."""
        seed = (self.settings.seed, 10 + STAGES.index(name), step)
        figures = job.stage.loss(np.random.default_rng(seed))
        figures["loss"].backward()  # type: ignore[no-untyped-call]
        for optimizer in job.optimizers:
            optimizer.step(schedule(step, job.steps))
        return figures

    def log(self, name: str, step: int, seconds: float, figures: dict[str, float]) -> None:
        """Write a line to log.jsonl and to stderr.

        Args:
            name: The stage.
            step: How many steps it has taken.
            seconds: How long they took since the stage was started or resumed.
            figures: Means over the steps since the last line.
        """
        row = {
            "stage": name,
            "step": step,
            "seconds": round(seconds),
            **{key: round(x, 4) for key, x in figures.items()},
        }
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), file=sys.stderr, flush=True)

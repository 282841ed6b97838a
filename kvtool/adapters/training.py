"""Training of a linear adapter: cross-entropy of answers, with all weights but the layer's frozen.

Features of the tower are computed once and given. They are standardized per channel, which the
layer absorbs when it is done, so that it reads the tower's features as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from kvtool.adapters.examples import TrainingExample
from kvtool.adapters.reading import AnswerReader
from kvtool.adapters.standard import Standard
from kvtool.errors import ModelError
from kvtool.models.families.linear_adapter import LinearAdapter

Report = Callable[[int, float], None]
"""Called with the steps that are done and the last loss."""

WARM_UP = 0.03
LOWEST_RATE = 0.02
CLIP = 1.0
SAVE_STEPS = 50
"""Steps between two savings of what an interrupted training goes on from."""


@dataclass(frozen=True)
class AdapterRecipe:
    """How an adapter is trained.

    Attributes:
        steps: How many batches are taken.
        batch: Examples of a batch.
        learning_rate: Of AdamW, after a warm-up of 3 %; it falls to 2 % along a cosine.
        seed: The random seed of the order of examples.
    """

    steps: int
    batch: int = 8
    learning_rate: float = 2e-3
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm = max(1, round(self.steps * WARM_UP))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        done = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * (LOWEST_RATE + (1 - LOWEST_RATE) * (1 + cos(pi * done)) / 2)


def train_layer(
    model: LinearAdapter,
    tokens: torch.Tensor,
    examples: Sequence[TrainingExample],
    recipe: AdapterRecipe,
    *,
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> dict[str, torch.Tensor]:
    """Train the layer of an adapter, from its weights as they are, and return the new ones.

    Args:
        model: The frozen models with the layer.
        tokens: Features of images as the layer reads them, (image, token, d).
        examples: What is asked and answered of the images.
        recipe: How it is trained.
        checkpoint: A file from which an interrupted training goes on, bit for bit, and into which
            it is saved; the caller removes it.
        report: Told of the progress.

    Raises ModelError for a checkpoint of another training.
    """
    training = Training(model, tokens, examples, recipe)
    if checkpoint is not None and checkpoint.is_file():
        training.load(checkpoint)
    while training.step < recipe.steps:
        loss = training.advance()
        if report is not None:
            report(training.step, loss)
        is_last = training.step == recipe.steps
        if checkpoint is not None and (is_last or training.step % SAVE_STEPS == 0):
            training.save(checkpoint)
    return training.layer()


class Training:
    """A layer under training.

    Attributes:
        model: The frozen models, and the layer at its start.
        step: How many steps are done.
    """

    def __init__(
        self,
        model: LinearAdapter,
        tokens: torch.Tensor,
        examples: Sequence[TrainingExample],
        recipe: AdapterRecipe,
    ) -> None:
        """tokens: pooled features of images, (image, token, d)."""
        self.model = model
        self.tokens = tokens
        self.examples = examples
        self.recipe = recipe
        self.step = 0
        self.standard = Standard.of(tokens)
        model.net.requires_grad_(False)
        # Features are standardized while they are learned from; the start is brought there too.
        start = self.standard.unfold(model.linear.weight.cpu(), model.linear.bias.cpu())
        self.weight, self.bias = (part.detach().clone().requires_grad_() for part in start)
        self.optimizer = torch.optim.AdamW(
            [self.weight, self.bias], lr=recipe.learning_rate, weight_decay=0.0
        )
        self.reader = AnswerReader(model)
        # The order of the examples is drawn anew for each epoch; none is drawn yet.
        self._epoch = -1, torch.empty(0, dtype=torch.long)

    def advance(self) -> float:
        """Take one step and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        batch = [self.examples[index] for index in self._batch().tolist()]
        # Only the layer is learned: the features are given, and the model behind is frozen.
        features = self.standard.apply(self.tokens[[example.image for example in batch]])
        soft = F.linear(features, self.weight, self.bias)
        loss = self.reader.losses(soft, batch).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([self.weight, self.bias], CLIP)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def _batch(self) -> torch.Tensor:
        """Return the examples of this step; the step alone tells which, so that a training goes on
        as if it had not been interrupted.
        """
        size = min(self.recipe.batch, len(self.examples))
        # An epoch has whole batches alone; each draws an order of its own.
        epoch, position = divmod(self.step, len(self.examples) // size)
        if self._epoch[0] != epoch:
            seed = self.recipe.seed * 1_000_003 + epoch
            generator = torch.Generator().manual_seed(seed)
            self._epoch = epoch, torch.randperm(len(self.examples), generator=generator)
        return self._epoch[1][position * size : (position + 1) * size]

    def layer(self) -> dict[str, torch.Tensor]:
        """Return the layer as it is now, for features as they are."""
        weight, bias = self.standard.fold(self.weight.detach(), self.bias.detach())
        return {"weight": weight.contiguous(), "bias": bias.contiguous()}

    # Interrupted trainings.

    def save(self, path: Path) -> None:
        """Write all that the next step depends on, whole or not at all."""
        state = {
            "recipe": asdict(self.recipe),
            "n_examples": len(self.examples),
            "step": self.step,
            "weight": self.weight.detach(),
            "bias": self.bias.detach(),
            "optimizer": self.optimizer.state_dict(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises ModelError where it is of another training."""
        state: Any = torch.load(path, weights_only=True)
        ours = (asdict(self.recipe), len(self.examples))
        if (theirs := (state["recipe"], state["n_examples"])) != ours:
            raise ModelError(
                f"{path}: expected an interrupted training of {ours}, found {theirs}; remove it, "
                "or train as before"
            )
        self.step = state["step"]
        with torch.no_grad():
            self.weight.copy_(state["weight"])
            self.bias.copy_(state["bias"])
        self.optimizer.load_state_dict(state["optimizer"])

"""Training of a linear adapter: cross-entropy of answers, with all weights but the layer's frozen.

Features of the tower are computed once and given. They are standardized per channel, which the
layer absorbs when it is done, so that it reads the tower's features as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from kvtool.adapters.examples import Example
from kvtool.errors import ModelError
from kvtool.models.cache import full_cache, widened
from kvtool.models.families.linear_adapter import LinearAdapter

Report = Callable[[int, float], None]
"""Called with the steps that are done and the last loss."""

WARM_UP = 0.03
LOWEST_RATE = 0.02
CLIP = 1.0


@dataclass(frozen=True)
class Recipe:
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


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of each channel of tower features, (d,)."""

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, tokens: torch.Tensor) -> Standard:
        """Measure tokens (image, token, d)."""
        channels = tokens.float().flatten(0, 1)
        # A channel that never changes is left at its length.
        deviation = channels.std(dim=0)
        return cls(channels.mean(dim=0), torch.where(deviation > 0, deviation, 1.0))

    def apply(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return standardized tokens in float32."""
        return (tokens.float() - self.mean) / self.deviation

    def fold(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer (d_language, d) that reads features as they are."""
        folded = weight / self.deviation
        return folded, bias - folded @ self.mean

    def unfold(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer that reads standardized features; the reverse of `fold`."""
        return weight * self.deviation, bias + weight @ self.mean


def train_layer(
    model: LinearAdapter,
    tokens: torch.Tensor,
    examples: Sequence[Example],
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    save_steps: int = 50,
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
        save_steps: Steps between two savings.
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
        if checkpoint is not None and (is_last or training.step % save_steps == 0):
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
        examples: Sequence[Example],
        recipe: Recipe,
    ) -> None:
        """tokens: pooled features of images, (image, token, d)."""
        self.model = model
        self.tokens = tokens
        self.examples = examples
        self.recipe = recipe
        self.step = 0
        self.standard = Standard.of(tokens)
        model.net.requires_grad_(False)
        start = self.standard.unfold(model.linear.weight.cpu(), model.linear.bias.cpu())
        self.weight, self.bias = (part.detach().clone().requires_grad_() for part in start)
        self.optimizer = torch.optim.AdamW(
            [self.weight, self.bias], lr=recipe.learning_rate, weight_decay=0.0
        )
        self.reader = AnswerReader(model)
        self._epoch = -1, torch.empty(0, dtype=torch.long)

    def advance(self) -> float:
        """Take one step and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        chosen = [self.examples[index] for index in self._batch().tolist()]
        features = self.standard.apply(self.tokens[[example.image for example in chosen]])
        soft = F.linear(features, self.weight, self.bias)
        loss = self.reader.losses(soft, chosen).mean()
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
        epoch, place = divmod(self.step, len(self.examples) // size)
        if self._epoch[0] != epoch:
            seed = self.recipe.seed * 1_000_003 + epoch
            generator = torch.Generator().manual_seed(seed)
            self._epoch = epoch, torch.randperm(len(self.examples), generator=generator)
        return self._epoch[1][place * size : (place + 1) * size]

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


class AnswerReader:
    """How probable a frozen model finds answers behind soft tokens."""

    def __init__(self, model: LinearAdapter) -> None:
        self.model = model
        # What stands before the image is the same in every prompt: its keys and values are
        # computed once.
        ids = torch.tensor([model.prompt.prefix_ids("")], dtype=torch.long)
        self.before = full_cache([], [])
        self.n_before = ids.shape[1]
        with torch.no_grad():
            if self.n_before:
                embedded = model.embed(ids.to(model.checkpoint.device))
                model.run(embedded, None, self.before)

    def losses(self, soft: torch.Tensor, examples: Sequence[Example]) -> torch.Tensor:
        """Return the cross-entropy of every token of the answers, (answer token,).

        Args:
            soft: Tokens of each example's image, (example, token, d_language).
            examples: What follows each image.
        """
        logits, targets = self.logits(soft, examples)
        return F.cross_entropy(logits, targets, reduction="none")

    def logits(
        self, soft: torch.Tensor, examples: Sequence[Example]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the model expects at every token of the answers, (answer token, vocabulary)
        in float32, and the tokens, (answer token,).
        """
        model, device = self.model, self.model.checkpoint.device
        ids, is_answer = _padded(examples)
        n_image = soft.shape[1]
        embedded = model.embed(ids.to(device))
        states = torch.cat([soft.to(device, embedded.dtype), embedded], dim=1)
        cache = widened(self.before, len(examples)) if self.n_before else full_cache([], [])
        # Padding stands behind all answers, which so never see it.
        states = model.run(states, None, cache)
        # The state at a token predicts the next.
        states = states[:, n_image - 1 : -1][is_answer.to(device)]
        return model.net.lm_head(states).float(), ids[is_answer].to(device)


def _padded(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids of examples, (example, token), padded behind, and which are of answers."""
    width = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    is_answer = torch.zeros(len(examples), width, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        is_answer[row, example.start : len(example.ids)] = True
    return ids, is_answer


@dataclass(frozen=True)
class AnswerScores:
    """How a model answers, token by token, each behind the right ones before it.

    Attributes:
        loss: The mean cross-entropy of answer tokens.
        right: The share of answer tokens that the model finds the most probable.
    """

    loss: float
    right: float


@torch.no_grad()
def answer_scores(
    model: LinearAdapter,
    layer: Mapping[str, torch.Tensor],
    tokens: torch.Tensor,
    examples: Sequence[Example],
    batch: int = 16,
) -> AnswerScores:
    """Score answers under a layer.

    Args:
        model: The frozen models.
        layer: The weights of the layer.
        tokens: Features of images, (image, token, d).
        examples: What is asked and answered of the images.
        batch: Examples that run together.
    """
    reader = AnswerReader(model)
    loss = right = count = 0.0
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].ids))
    for first in range(0, len(order), batch):
        chosen = [examples[index] for index in order[first : first + batch]]
        features = tokens[[example.image for example in chosen]].float()
        soft = F.linear(features, layer["weight"], layer["bias"])
        logits, targets = reader.logits(soft, chosen)
        loss += float(F.cross_entropy(logits, targets, reduction="sum"))
        right += int((logits.argmax(dim=-1) == targets).sum())
        count += len(targets)
    return AnswerScores(loss / count, right / count)

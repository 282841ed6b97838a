"""Training of SAEs: BatchTopK (Bussmann et al. 2024) on vectors of a language model's stream.

In a batch of B tokens the k B largest activations stay, so that a token may have more of them than
another. After training one threshold stands for the ranking, which makes the SAE a JumpReLU that
reads one token at a time.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import cos, pi, sqrt
from pathlib import Path
from typing import Any

import torch

from kvtool.autoencoders.activations import JumpReLU
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.autoencoders.tensors import read_pickle
from kvtool.errors import ModelError, UsageError
from kvtool.outputs import write_output

Report = Callable[[int, float], None]
"""Called with the steps that are done and the last loss."""

_MEAN_TOKENS = 65_536
"""So many tokens tell the mean and the mean length of vectors."""
_THRESHOLD_MEMORY = 0.99
"""How much of the threshold stays at each step."""


@dataclass(frozen=True)
class SaeRecipe:
    """How an SAE is trained.

    Attributes:
        width: The number of features.
        k: The mean number of active features of a token.
        steps: How many batches are taken.
        batch: Tokens of a batch.
        learning_rate: Of Adam, after a warm-up of 5 %; it falls to 0 along a cosine.
        aux_weight: The weight of the loss by which features that never fire learn what the others
            miss (Gao et al. 2024).
        dead_after: A feature that did not fire in so many batches counts as one that never fires.
        seed: The random seed of weights and batches.
    """

    width: int
    k: int
    steps: int = 1500
    batch: int = 1024
    learning_rate: float = 2e-3
    aux_weight: float = 1 / 32
    dead_after: int = 100
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm = max(1, self.steps // 20)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        done = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * (1 + cos(pi * done)) / 2


def train_sae(
    states: torch.Tensor,
    recipe: SaeRecipe,
    origin: Origin,
    *,
    checkpoint: Path | None = None,
    save_steps: int = 250,
    report: Report | None = None,
    device: torch.device | str = "cpu",
) -> SparseAutoencoder:
    """Train an SAE.

    Args:
        states: Vectors of text, (token, d), in any precision; a memory-mapped tensor is read batch
            by batch.
        recipe: How it is trained.
        origin: What it is trained on.
        checkpoint: A file from which an interrupted training goes on, bit for bit, and into which
            it is saved; it is removed at the end.
        save_steps: Steps between two savings.
        report: Told of the progress.
        device: Where it is trained.

    Raises UsageError for too few tokens, ModelError for a checkpoint of another training.
    """
    # A batch is drawn with replacement, but fewer tokens than one would repeat in each.
    if len(states) < recipe.batch or not 0 < recipe.k <= recipe.width:
        raise UsageError(
            f"sae train: expected {recipe.batch} tokens or more and k from 1 to {recipe.width}, "
            f"found {len(states)} tokens and k {recipe.k}; give more text, or a smaller batch"
        )
    training = _Training(states, recipe, torch.device(device))
    # The steps that a checkpoint has are not taken again.
    if checkpoint is not None and checkpoint.is_file():
        training.load(checkpoint)
    while training.step < recipe.steps:
        loss = training.advance()
        if report is not None:
            report(training.step, loss)
        if checkpoint is not None and training.step % save_steps == 0:
            training.save(checkpoint)
    autoencoder = training.result(origin)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return autoencoder


class _Training:
    """One SAE under training; its vectors are scaled to a mean length of sqrt(d)."""

    def __init__(self, states: torch.Tensor, recipe: SaeRecipe, device: torch.device) -> None:
        self.states = states
        self.recipe = recipe
        self.device = device
        self.step = 0
        sample = self._vectors(torch.arange(min(len(states), _MEAN_TOKENS)))
        d = sample.shape[1]
        # At a mean length of sqrt(d) the same rates suit the layers of every model.
        self.scale = sqrt(d) / float(sample.norm(dim=1).mean())
        generator = torch.Generator().manual_seed(recipe.seed)
        decoder = torch.randn(recipe.width, d, generator=generator).to(device)
        decoder /= decoder.norm(dim=1, keepdim=True)
        # The encoder starts as the decoder's transpose, as is usual.
        self.weights = {
            "encoder": decoder.T.clone(),
            "encoder_bias": torch.zeros(recipe.width, device=device),
            "decoder": decoder,
            "decoder_bias": sample.mean(dim=0) * self.scale,
        }
        for weight in self.weights.values():
            weight.requires_grad_()
        self.optimizer = torch.optim.Adam(self.weights.values(), recipe.learning_rate)
        self.silent_for = torch.zeros(recipe.width, dtype=torch.long, device=device)
        self.threshold = torch.zeros((), device=device)

    def _vectors(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.states[tokens].to(self.device).float()

    def _batch(self) -> torch.Tensor:
        """Return the vectors of this step; the step alone tells which, so that a training goes on
        as if it had not been interrupted.
        """
        # Far apart for different seeds, so that trainings do not share batches.
        seed = self.recipe.seed * 1_000_003 + self.step + 1
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(len(self.states), (self.recipe.batch,), generator=generator)
        return self._vectors(tokens) * self.scale

    def advance(self) -> float:
        """Take one step and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        # Pre-activations are kept, as silent features repair the error by theirs.
        x = self._batch()
        pre = self._pre(x)
        features = self._strongest(pre)
        error = x - self._decode(features)
        loss = error.square().mean() + self.recipe.aux_weight * self._aux_loss(pre, error.detach())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._keep_rows_on_the_sphere()
        self.optimizer.step()
        # Adam's step lengthens rows all the same: they come back to the sphere after it.
        self._normalize_rows()
        self._note(features.detach())
        self.step += 1
        return float(loss.detach())

    def _pre(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.weights
        centered = x - weights["decoder_bias"]
        return (centered @ weights["encoder"] + weights["encoder_bias"]).relu()

    def _decode(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weights["decoder"] + self.weights["decoder_bias"]

    def _strongest(self, pre: torch.Tensor) -> torch.Tensor:
        """Return the k B largest activations of a batch of B tokens, the others 0."""
        # One ranking over the whole batch, in which tokens compete.
        flat = pre.flatten()
        top = flat.topk(self.recipe.k * len(pre), sorted=False).indices
        return torch.zeros_like(flat).scatter(0, top, flat[top]).view_as(pre)

    def _aux_loss(self, pre: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        """Return how badly the silent features alone give back what the others miss."""
        silent = torch.nonzero(self.silent_for >= self.recipe.dead_after)[:, 0]
        if not len(silent):
            return torch.zeros((), device=self.device)
        # Of a token only the strongest silent features take part.
        count = min(len(silent), max(1, pre.shape[1] // 16))
        values, top = pre[:, silent].topk(count, dim=1)
        repair = torch.zeros_like(pre[:, silent]).scatter(1, top, values)
        return (error - repair @ self.weights["decoder"][silent]).square().mean()

    def _keep_rows_on_the_sphere(self) -> None:
        """Take from the decoder's gradient what would only change the lengths of its rows."""
        decoder = self.weights["decoder"]
        assert decoder.grad is not None
        with torch.no_grad():
            # Rows have length 1, so the product with a row is the part along it.
            along = (decoder.grad * decoder).sum(dim=1, keepdim=True)
            decoder.grad -= along * decoder

    def _normalize_rows(self) -> None:
        with torch.no_grad():
            decoder = self.weights["decoder"]
            decoder /= decoder.norm(dim=1, keepdim=True)

    def _note(self, features: torch.Tensor) -> None:
        """Note which features fired, and the smallest activation that stayed."""
        fires = (features > 0).any(dim=0)
        self.silent_for = torch.where(fires, 0, self.silent_for + 1)
        active = features[features > 0]
        # Without an active feature the threshold stays.
        smallest = active.min() if len(active) else self.threshold
        # The first step sets the threshold, later ones move it.
        memory = _THRESHOLD_MEMORY if self.step else 0.0
        self.threshold = memory * self.threshold + (1 - memory) * smallest

    def result(self, origin: Origin) -> SparseAutoencoder:
        """Return the SAE in the units of the stream: rows of the decoder keep their length 1."""
        with torch.no_grad():
            weights = {name: weight.detach().cpu() for name, weight in self.weights.items()}
            weights = {name: weight.clone() for name, weight in weights.items()}
        m = self.recipe.width
        # Unscaled vectors give 1 / scale of the products in training: so for biases and threshold.
        return SparseAutoencoder(
            encoder=weights["encoder"],
            encoder_bias=weights["encoder_bias"] / self.scale,
            decoder=weights["decoder"],
            decoder_bias=weights["decoder_bias"] / self.scale,
            activation=JumpReLU((self.threshold.cpu() / self.scale).expand(m).clone()),
            origin=origin,
            is_centered=True,
        )

    # Interrupted trainings.

    def save(self, path: Path) -> None:
        """Write all that the next step depends on, whole or not at all."""
        state = {
            "recipe": asdict(self.recipe),
            "n_tokens": len(self.states),
            "step": self.step,
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "silent_for": self.silent_for,
            "threshold": self.threshold,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_output(path, buffer.getvalue(), "sae train", make_folder=True)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises ModelError where it is of another training."""
        state: Any = read_pickle(path)
        ours = (asdict(self.recipe), len(self.states))
        theirs = (state.get("recipe"), state.get("n_tokens")) if isinstance(state, dict) else None
        if theirs != ours:
            raise ModelError(
                f"{path}: expected a checkpoint of this training, found one of other settings or "
                "text; remove it, or name another folder"
            )
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        # How long features have been silent and the threshold go on as they were, or the rest of
        # the training would not be the same bit for bit.
        self.silent_for = state["silent_for"].to(self.device)
        self.threshold = state["threshold"].to(self.device)

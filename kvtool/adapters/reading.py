"""How well a frozen model finds answers behind the soft tokens of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from kvtool.adapters.examples import TrainingExample
from kvtool.models.cache import widened
from kvtool.models.families.linear_adapter import LinearAdapter


class AnswerReader:
    """How probable a frozen model finds answers behind soft tokens."""

    def __init__(self, model: LinearAdapter) -> None:
        self.model = model
        # What stands before the image is the same in every prompt: its keys and values are
        # computed once.
        ids = torch.tensor([model.prompt.prefix_ids("")], dtype=torch.long)
        self.before = model.new_cache()
        self.n_before = ids.shape[1]
        with torch.no_grad():
            if self.n_before:
                embedded = model.embed(ids.to(model.checkpoint.device))
                model.run(embedded, None, self.before)

    def losses(self, soft: torch.Tensor, examples: Sequence[TrainingExample]) -> torch.Tensor:
        """Return the cross-entropy of every token of the answers, (answer token,).

        Args:
            soft: Tokens of each example's image, (example, token, d_language).
            examples: What follows each image.
        """
        logits, targets = self.logits(soft, examples)
        return F.cross_entropy(logits, targets, reduction="none")

    def logits(
        self, soft: torch.Tensor, examples: Sequence[TrainingExample]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the model expects at every token of the answers, (answer token, vocabulary)
        in float32, and the tokens, (answer token,).
        """
        model, device = self.model, self.model.checkpoint.device
        ids, is_answer = _padded(examples)
        n_image = soft.shape[1]
        embedded = model.embed(ids.to(device))
        states = torch.cat([soft.to(device, embedded.dtype), embedded], dim=1)
        cache = widened(self.before, len(examples)) if self.n_before else model.new_cache()
        # Padding stands behind all answers, which so never see it.
        states = model.run(states, None, cache)
        # The state at a token predicts the next.
        states = states[:, n_image - 1 : -1][is_answer.to(device)]
        return model.net.lm_head(states).float(), ids[is_answer].to(device)


def _padded(examples: Sequence[TrainingExample]) -> tuple[torch.Tensor, torch.Tensor]:
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
    examples: Sequence[TrainingExample],
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
    # Examples of like length run together, so that little of a batch is padding.
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].ids))
    for first in range(0, len(order), batch):
        together = [examples[index] for index in order[first : first + batch]]
        features = tokens[[example.image for example in together]].float()
        soft = F.linear(features, layer["weight"], layer["bias"])
        logits, targets = reader.logits(soft, together)
        # Sums, since batches have answers of different length.
        loss += float(F.cross_entropy(logits, targets, reduction="sum"))
        right += int((logits.argmax(dim=-1) == targets).sum())
        count += len(targets)
    return AnswerScores(loss / count, right / count)

"""What the model loses where its residual stream at image tokens is replaced: the loss of a caption
that follows the image, with other vectors in the stream's place after one layer.

Replaced by its reconstruction, the stream says how much of what the model uses of an image an SAE
gives back; replaced by the mean image vector, how much there was to lose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from kvtool.errors import UsageError
from kvtool.models.base import Array, BeforeDecoder
from kvtool.models.continuation import Continuation
from kvtool.models.device import from_numpy, to_device
from kvtool.models.hidden import check_deepstack
from kvtool.types import KeyPosition, Sample

QUESTION = "Describe the image."
"""What is asked after the image; the caption is the answer."""


class SplicedImage:
    """One image of a run and its caption, for losses with the stream replaced after any layer.

    Attributes:
        n_tokens: The number of the caption's tokens, over which a loss is averaged.
    """

    def __init__(
        self,
        model: Continuation,
        sample: Sample,
        arrays: Mapping[str, Array],
        tokens: Array,
        caption: str,
        *,
        question: str = QUESTION,
        keys: KeyPosition = "post-rope",
    ) -> None:
        """Take an image and what is replaced.

        Args:
            model: The run's model.
            sample: The image.
            arrays: `key`, `value` (layer, kv_head, token, dim), `text_key`, `text_value` (layer,
                kv_head, prefix_token, dim) of every layer, and `projected` (1, 1, token, hidden),
                as stored.
            tokens: Indices (n,) of the image tokens whose stream is replaced.
            caption: What the loss is of.
            question: What is asked before it.
            keys: Whether keys were stored before or after the rotary embedding.

        Raises UsageError where layers are missing, for a token that the image lacks, for a caption
        without a token, and of a model with DeepStack.
        """
        check_deepstack(model.info)
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < sample.n_tokens:
            raise UsageError(
                f"image {sample.id}: expected tokens from 0 to {sample.n_tokens - 1}, found "
                f"{tokens.min()} to {tokens.max()}"
            )
        self._model = model
        self._sample = sample
        device = model.checkpoint.device
        self._tokens = torch.from_numpy(np.ascontiguousarray(tokens)).long().to(device)
        self._projected = to_device(
            [from_numpy(arrays["projected"][0, 0], model.checkpoint.dtype)], device
        )
        self._arrays = arrays
        self._keys: KeyPosition = keys
        # Question and caption are tokenized as one text, as they stand in the prompt.
        opening = model.question(question)
        self._text = opening + caption
        ids = model.prompt.text_ids(self._text)
        # A tokenizer may join the caption's first letters to what stands before.
        before = _common(ids, model.prompt.text_ids(opening))
        self.n_tokens = len(ids) - before
        if self.n_tokens < 1 or before < 1:
            raise UsageError(f"image {sample.id}: expected a caption of words, found {caption!r}")
        # The loss is of the caption's tokens alone, not of the question before it.
        self._target = torch.tensor(ids[before:])

    def loss(self) -> float:
        """Return the mean cross entropy of the caption's tokens, in nats, nothing replaced."""
        return self._loss(self._restored())

    @torch.inference_mode()
    def spliced_loss(self, layer: int, vectors: torch.Tensor) -> float:
        """Return the same with the stream after a layer replaced.

        Args:
            layer: The decoder's layer whose output is replaced, 0-based.
            vectors: What stands at the chosen tokens, (n, hidden); those of an SAE's
                reconstruction, or the mean image vector for each.
        """
        model = self._model
        cache = model.new_cache()
        # Replaced in the pass that makes the cache: later layers hold keys and values of it.
        module = model.language_model.layers[layer]
        # The text before the image is run with it, so that each family masks as it does.
        positions = self._sample.image_start + self._tokens
        with _replaced(module, positions, vectors):
            model.run_prompts([self._sample], BeforeDecoder(self._projected, {}), cache)
        return self._loss(cache)

    def _restored(self) -> Any:
        return self._model.restore([self._sample], [self._arrays], self._keys)

    def _loss(self, cache: Any) -> float:
        logits = self._model.logits(cache, [self._sample], self._text)[0]
        # What stands before a token foretells it; what follows the last one is not asked for.
        foretelling = logits[-self.n_tokens - 1 : -1]
        return float(nn.functional.cross_entropy(foretelling, self._target))


@contextmanager
def _replaced(module: nn.Module, positions: torch.Tensor, vectors: torch.Tensor) -> Iterator[None]:
    """Replace a layer's output (1, position, hidden) at positions (n,) by vectors (n, hidden)."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        # A copy, since what is put out may be used elsewhere as it was.
        stream = (output[0] if isinstance(output, tuple) else output).clone()
        stream[0, positions] = vectors.to(stream)
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    # The hook goes, however the pass ends, since the model is used again.
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _common(first: list[int], second: list[int]) -> int:
    """Return how many tokens two lists begin with in common."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))

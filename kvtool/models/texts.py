"""Vectors of texts that a decoder runs without an image: class names and expressions.

A text stands in the user's turn of the chat template, after its opening. Alone, a text of one token
would stand at position 0, where decoders without a start token put what attention has no other use
for: its value vector says little of the word.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch

from kvtool.errors import UsageError
from kvtool.models.base import Array
from kvtool.models.cache import CaptureCache, until_finished
from kvtool.models.choices import chosen_layers
from kvtool.models.device import from_numpy, to_device, to_numpy
from kvtool.models.prompts import Prompt
from kvtool.models.several import SeveralImages
from kvtool.models.text_vectors import TextVectors
from kvtool.text_templates import DEFAULT, TextTemplate
from kvtool.types import Kind

TEXT_BATCH = 64


@dataclass(frozen=True)
class PlacedText:
    """The token ids of a prompt that ends with a text, and how many of them are the text's."""

    ids: tuple[int, ...]
    n_tokens: int


class TextReader(SeveralImages):
    """The part of a decoder family that runs texts without an image."""

    prompt: Prompt
    info: Any

    def token_ids(self, text: str) -> list[int]:
        """See LanguageModel.token_ids."""
        return self.prompt.text_ids(text)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """See LanguageModel.token_spans."""
        ids = self.prompt.text_ids(text)
        # As text_ids does: with the image before it, on which a text's first token may depend.
        image = self.prompt.image
        try:
            encoded = self.prompt.tokenizer(
                image + text, add_special_tokens=False, return_offsets_mapping=True
            )
        except NotImplementedError:  # of a tokenizer that is written in Python
            raise UsageError(
                f"model {self.info.name}: expected a tokenizer that says where its tokens stand in "
                "a text, found one that does not; ask from the last token"
            ) from None
        # The last offsets are the text's: the placeholder stands before it.
        spans = encoded["offset_mapping"][-len(ids) :] if ids else []
        return [(start - len(image), stop - len(image)) for start, stop in spans]

    def text_values(
        self, texts: Sequence[str], layers: Sequence[int], template: str = DEFAULT
    ) -> Array:
        """See Model.text_values."""
        return self.text_vectors(texts, layers, ("value",), template).arrays["value"]

    @torch.inference_mode()
    def text_vectors(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        kinds: Sequence[Kind],
        template: str = DEFAULT,
    ) -> TextVectors:
        """See Model.text_vectors. Texts of equal numbers of tokens run together; none is padded."""
        shape = TextTemplate.parse(template)
        prompts = [self._placed(text, shape) for text in texts]
        if not texts:
            raise UsageError("texts: expected at least one token in each, found no text; name some")
        # Patterns of all texts run together, and are averaged text by text at the end.
        placed = [prompt for patterns in prompts for prompt in patterns]
        self._warn_of_sink([patterns[0] for patterns in prompts])
        arrays: dict[str, Array] = self._values(placed, layers) if "value" in kinds else {}
        if "projected" in kinds:
            arrays["projected"], arrays["projected_mean"] = self._embeddings(placed)
        n_patterns = len(shape.patterns)
        return TextVectors(
            {name: self._averaged(array, n_patterns) for name, array in arrays.items()},
            [patterns[0].n_tokens for patterns in prompts],
        )

    def _placed(self, text: str, template: TextTemplate) -> list[PlacedText]:
        """The prompts of a text, one a pattern. Raises UsageError for a text without a token."""
        prompts = []
        for filled in template.filled(text):
            ids, n_tokens = self.prompt.placed_ids(filled, template.is_alone)
            if not text.strip() or n_tokens < 1:
                raise UsageError(
                    f"texts: expected at least one token in each, found {text!r}; leave it out"
                )
            prompts.append(PlacedText(tuple(ids), n_tokens))
        return prompts

    def _warn_of_sink(self, prompts: Sequence[PlacedText]) -> None:
        """Warn of texts whose only token has nothing before it."""
        count = sum(len(prompt.ids) == 1 for prompt in prompts)
        if count:
            logging.getLogger("kvtool").warning(
                "model %s: %d of %d texts are one token alone at position 0, where attention that "
                "looks nowhere goes, so that their vectors say little of the word: leave alone: "
                "out of the text template, or put words before {}",
                self.info.name,
                count,
                len(prompts),
            )

    def _values(self, prompts: Sequence[PlacedText], layers: Sequence[int]) -> dict[str, Array]:
        """Value vectors of each prompt's last token: by array (prompt, layer, kv_head, dim)."""
        layers = chosen_layers(layers, self.info.geometry.layers, ())
        rows: dict[str, list[Any]] = {}
        # Prompts of one length run together, whichever text they are of.
        lengths = [len(prompt.ids) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lengths.__getitem__)
        for _, group in groupby(order, key=lengths.__getitem__):
            indices = list(group)
            for start in range(0, len(indices), TEXT_BATCH):
                chunk = indices[start : start + TEXT_BATCH]
                values = self._last_values([prompts[index].ids for index in chunk], layers)
                for name, chunk_rows in values.items():
                    slots = rows.setdefault(name, [None] * len(prompts))
                    for index, row in zip(chunk, chunk_rows, strict=True):
                        slots[index] = row
        return {name: np.stack(slots) for name, slots in rows.items()}

    def _last_values(
        self, ids: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> dict[str, list[Array]]:
        """Values of the last token of each text of equal length: by array (layer, kv_head, dim)."""
        arrays = {"value": self.info.geometry.cache_arrays("value", layers)}
        # Only the last token's values are kept, and the pass ends with the last layer asked for.
        cache = CaptureCache(arrays, {"last": slice(-1, None)}, states=self.new_cache())
        tokens = to_device([torch.tensor(row) for row in ids], self.checkpoint.device)
        with until_finished():
            self.run(self.embed(tokens), None, cache, **self.beside(tokens))
        return {
            name: [array[:, :, 0] for array in arrays]
            for name, arrays in cache.arrays("last").items()
        }

    def _embeddings(self, prompts: Sequence[PlacedText]) -> tuple[Array, Array]:
        """What the decoder takes for a text, (prompt, 1, 1, hidden): the input embedding of its
        last token, and the mean over its tokens.
        """
        last, mean = [], []
        for prompt in prompts:
            ids = torch.tensor(prompt.ids[-prompt.n_tokens :], device=self.checkpoint.device)
            embedded = self.embed(ids[None])[0]
            last.append(embedded[-1].cpu())
            # In float32, so that a long sentence is no less exact than a word.
            mean.append(embedded.float().mean(0).to(embedded.dtype).cpu())
        stacked = [torch.stack(rows)[:, None, None] for rows in (last, mean)]
        return to_numpy(stacked[0]), to_numpy(stacked[1])

    def _averaged(self, array: Array, n_patterns: int) -> Array:
        """Vectors (text * pattern, ...) averaged over the patterns of each text."""
        if n_patterns == 1:
            return array
        # Averaged in float32, and stored in the run's precision.
        vectors = from_numpy(array, self.checkpoint.dtype).float()
        mean = vectors.reshape(-1, n_patterns, *vectors.shape[1:]).mean(1)
        return to_numpy(mean.to(self.checkpoint.dtype))

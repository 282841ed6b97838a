"""The likeliest words at every patch of an image, after some layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvtool.features.residual import image_streams, tokens_of_cells
from kvtool.result import Row
from kvtool.store import Run
from kvtool.store.tokens import Indices
from kvtool.types import HIDDEN, Sample

if TYPE_CHECKING:
    from kvtool.features.lens import TopWord
    from kvtool.models.base import LanguageModel
    from kvtool.models.language import Language

WORDS = 5
"""Words of a patch that are listed."""


@dataclass(frozen=True)
class PatchWords:
    """The likeliest words at the base grid of one image after one layer, the likeliest first; one
    list a cell, row by row.
    """

    sample: Sample
    layer: int
    words: Sequence[Sequence[TopWord]]

    @property
    def grid(self) -> tuple[int, int]:
        """The rows and columns of the patches."""
        return self.sample.base(HIDDEN).grid

    def rows(self) -> Iterator[Row]:
        """Yield a row for each patch."""
        _, cols = self.grid
        tokens = self.sample.base(HIDDEN).token_indices()
        for cell, (token, words) in enumerate(zip(tokens, self.words, strict=True)):
            best = words[0] if words else None
            yield {
                "image": self.sample.id,
                "layer": self.layer,
                "token": token,
                "row": cell // cols,
                "col": cell % cols,
                "word": None if best is None else best.text,
                "probability": None if best is None else best.probability,
                "words": [word.text for word in words],
            }

    def item(self) -> Row:
        """Return the likeliest word of each patch as one record."""
        return {
            "image": self.sample.id,
            "layer": self.layer,
            "grid": list(self.grid),
            "words": [words[0].text if words else "" for words in self.words],
            "probabilities": [
                round(words[0].probability, 4) if words else None for words in self.words
            ],
        }


def patch_words(
    run: Run,
    model: LanguageModel | None,
    language: Language,
    ids: Sequence[str],
    layers: Sequence[int],
) -> Iterator[PatchWords]:
    """Yield what is read at every patch of images, image by image and layer by layer."""
    from kvtool.features.lens import top_words

    # All cells of the base grid, so that each patch of the picture gets a word.
    tokens: dict[str, Indices] = {}
    for image in ids:
        sample = run.image(image).sample
        rows, cols = sample.base(HIDDEN).grid
        tokens[image] = tokens_of_cells(sample, slice(rows * cols))
    for stream in image_streams(run, layers, tokens, model):
        states = stream.states.to(language.device)
        for row, layer in enumerate(layers):
            yield PatchWords(stream.sample, layer, top_words(language, states[row], WORDS))

"""The base of encoders with a text tower: their patches and texts stand in one space.

`projected` is a patch put through what the class puts the image's pooled token through, scaled to
length 1 as the class does before it compares an image with texts: what the class would say of an
image of which that patch is all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch.nn.functional import normalize

from kvtool.errors import UsageError
from kvtool.models.device import to_numpy
from kvtool.models.encoder import Encoder
from kvtool.models.files import has_tokenizer
from kvtool.models.loading import Checkpoint
from kvtool.models.text_vectors import TextVectors
from kvtool.text_templates import TextTemplate
from kvtool.types import Geometry, Kind

TEXT_BATCH = 64


class Contrastive(Encoder):
    """A tower of images and one of texts; without a tokenizer, the tower of images alone."""

    towers: ClassVar[Any]
    """The class of transformers with both towers."""
    projects: ClassVar[bool] = True
    """Whether both towers are projected to a space of another width than the image's tower."""
    text_padding: ClassVar[str | bool] = True
    """How texts are padded: to the longest one, or to "max_length"."""
    text_inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    """What the text tower takes of a tokenizer."""
    loads_alone: ClassVar[bool] = True
    """Whether transformers finds the image's tower in a checkpoint of both."""
    reads_text = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        # Without a tokenizer there is no space of texts, and the tower alone is kept.
        self.has_texts = has_tokenizer(checkpoint.snapshot.path)
        if self.has_texts:
            self.kinds = ("projected", "vision")
            self.tokenizer = checkpoint.tokenizer()
        super().__init__(checkpoint)

    def load_network(self) -> Any:
        """Return the image's tower, with both loaded where texts are read."""
        if not self.has_texts and self.loads_alone:
            return super().load_network()
        self.whole: Any = self.checkpoint.network(self.towers, self.checkpoint.config(self.towers))
        return self.whole.vision_model

    def geometry(self) -> Geometry:
        """Return the sizes of the tower and, as `hidden`, of the space that it shares with
        texts.
        """
        tower = super().geometry()
        return replace(tower, hidden=self.shared_dim()) if self.has_texts else tower

    def shared_dim(self) -> int:
        """Return the dimension of the space that patches and texts share."""
        towers_config = self.checkpoint.config(self.towers)
        dim: int = towers_config.projection_dim if self.projects else self.config.hidden_size
        return dim

    def tokenized(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the text tower's input, padded and cut the way it was trained."""
        length = self.whole.config.text_config.max_position_embeddings
        options = {"padding": self.text_padding, "truncation": True, "max_length": length}
        inputs = self.tokenizer(list(texts), return_tensors="pt", **options)
        return {name: inputs[name] for name in self.text_inputs}

    def pooled(self, patches: torch.Tensor) -> torch.Tensor:
        """Return what the class makes of images that are one patch (patch, dim) each."""
        raise NotImplementedError

    def beside_text(self, patches: torch.Tensor) -> torch.Tensor:
        """See Encoder.beside_text."""
        # Each patch is pooled as if it were an image of its own.
        vectors = normalize(self.pooled(patches.flatten(0, 1)), dim=-1)
        return vectors.reshape(*patches.shape[:2], -1)

    @torch.inference_mode()
    def text_vectors(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        kinds: Sequence[Kind],
        template: str = "{}",
    ) -> TextVectors:
        """See Model.text_vectors: text embeddings of length 1, averaged over the patterns and
        scaled to length 1 again.
        """
        if not self.has_texts:
            return super().text_vectors(texts, layers, kinds, template)
        shape = TextTemplate.parse(template)
        blank = next((repr(text) for text in texts if not text.strip()), "")
        if blank or not texts:
            raise UsageError(
                f"texts: expected at least one token in each, found {blank or 'no text'}; "
                "leave it out"
            )
        # Patterns of all texts run in one series; they are averaged text by text below.
        filled = [pattern for text in texts for pattern in shape.filled(text)]
        chunks = [
            self._embedded(filled[start : start + TEXT_BATCH])
            for start in range(0, len(filled), TEXT_BATCH)
        ]
        rows = torch.cat(chunks)
        # Averages of unit vectors are shorter than 1, which is made good after.
        embedded = rows.reshape(len(texts), -1, rows.shape[-1]).mean(1)
        vectors = normalize(embedded, dim=-1).to(self.checkpoint.dtype)[:, None, None].cpu()
        counts = [
            len(self.tokenizer(shape.filled(text)[0], add_special_tokens=False)["input_ids"])
            for text in texts
        ]
        return TextVectors({"projected": to_numpy(vectors)}, counts)

    def _embedded(self, texts: Sequence[str]) -> torch.Tensor:
        """(text, dim) embeddings in float32, of length 1."""
        inputs = {
            name: tensor.to(self.checkpoint.device)
            for name, tensor in self.tokenized(texts).items()
        }
        with self.checkpoint.running():
            embedded = self.whole.get_text_features(**inputs).pooler_output
        return normalize(embedded.float(), dim=-1)

"""SigLIP and CLIP with their text towers: their patches and texts stand in one space.

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
from transformers import CLIPModel, SiglipModel

from kvtool.errors import UsageError
from kvtool.models.device import to_numpy
from kvtool.models.families.encoders import Clip, Encoder, Siglip
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
    reads_text = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.has_texts = has_tokenizer(checkpoint.snapshot.path)
        if self.has_texts:
            self.kinds = ("projected", "vision")
            self.tokenizer = checkpoint.tokenizer()
        super().__init__(checkpoint)

    def load_network(self) -> Any:
        """Return the image's tower, with both loaded where texts are read."""
        if not self.has_texts:
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
        raise NotImplementedError

    def tokenized(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the text tower's input, padded and cut the way it was trained."""
        raise NotImplementedError

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
        filled = [pattern for text in texts for pattern in shape.filled(text)]
        chunks = [
            self._embedded(filled[start : start + TEXT_BATCH])
            for start in range(0, len(filled), TEXT_BATCH)
        ]
        rows = torch.cat(chunks)
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


class SiglipOfTwo(Contrastive, Siglip):
    """A SiglipModel. Its pooling head attends to one patch alone, which leaves that patch's value
    and the head's MLP.
    """

    towers = SiglipModel

    def shared_dim(self) -> int:
        """Return the width of the tower, in which the pooling head ends."""
        width: int = self.config.hidden_size
        return width

    def tokenized(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return token ids padded to the full length, without a mask: the last one is pooled."""
        length = self.whole.config.text_config.max_position_embeddings
        options = {"padding": "max_length", "truncation": True, "max_length": length}
        ids = self.tokenizer(list(texts), return_tensors="pt", **options)["input_ids"]
        return {"input_ids": ids}

    def beside_text(self, patches: torch.Tensor) -> torch.Tensor:
        """See Encoder.beside_text."""
        pooled: torch.Tensor = self.net.head(patches.flatten(0, 1)[:, None])
        return normalize(pooled, dim=-1).reshape(*patches.shape[:2], -1)


class ClipOfTwo(Contrastive, Clip):
    """A CLIPModel, whose norm and projection of the class token are applied to each patch."""

    towers = CLIPModel

    def shared_dim(self) -> int:
        """Return the dimension of both projections."""
        dim: int = self.checkpoint.config(self.towers).projection_dim
        return dim

    def tokenized(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return token ids padded to the longest, with the mask of what is no padding."""
        length = self.whole.config.text_config.max_position_embeddings
        options = {"padding": True, "truncation": True, "max_length": length}
        inputs = self.tokenizer(list(texts), return_tensors="pt", **options)
        return {name: inputs[name] for name in ("input_ids", "attention_mask")}

    def beside_text(self, patches: torch.Tensor) -> torch.Tensor:
        """See Encoder.beside_text."""
        projected = self.whole.visual_projection(self.net.post_layernorm(patches))
        return normalize(projected, dim=-1)

"""Encoders with their text towers: how a class pools a patch alone, and pads texts."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from transformers import CLIPModel, MetaClip2Model, Siglip2Model, SiglipModel, Tipsv2Model

from kvtool.models.contrastive import Contrastive
from kvtool.models.families.encoders import Clip, MetaClip2, Siglip, Siglip2, Tipsv2


class SiglipOfTwo(Contrastive, Siglip):
    """A SiglipModel. Its pooling head attends to one patch alone, which leaves that patch's value
    and the head's MLP. The last token of a padded text is pooled, without a mask.
    """

    towers: ClassVar[Any] = SiglipModel
    projects = False
    text_padding = "max_length"
    text_inputs = ("input_ids",)

    def pooled(self, patches: torch.Tensor) -> torch.Tensor:
        """See Contrastive.pooled."""
        vectors: torch.Tensor = self.net.head(patches[:, None])
        return vectors


class Siglip2OfTwo(SiglipOfTwo, Siglip2):
    """A Siglip2Model, as a SiglipModel."""

    towers = Siglip2Model


class ClipOfTwo(Contrastive, Clip):
    """A CLIPModel, whose norm and projection of the class token are applied to each patch."""

    towers: ClassVar[Any] = CLIPModel

    def pooled(self, patches: torch.Tensor) -> torch.Tensor:
        """See Contrastive.pooled."""
        vectors: torch.Tensor = self.whole.visual_projection(self.net.post_layernorm(patches))
        return vectors


class MetaClip2OfTwo(ClipOfTwo, MetaClip2):
    """A MetaClip2Model, as a CLIPModel."""

    towers = MetaClip2Model


class Tipsv2OfTwo(Contrastive, Tipsv2):
    """A Tipsv2Model, whose normed tokens stand in the space of its texts as they are."""

    towers = Tipsv2Model
    projects = False
    text_padding = "max_length"

    def pooled(self, patches: torch.Tensor) -> torch.Tensor:
        """See Contrastive.pooled."""
        return patches

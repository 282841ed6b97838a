"""AIMv2: its tower, and with a text tower (AIMv2-LiT)."""

from __future__ import annotations

import torch
from transformers import Aimv2Model, Aimv2VisionModel, CLIPImageProcessorPil

from kvtool.errors import UsageError
from kvtool.models.contrastive import Contrastive
from kvtool.models.encoder import Encoder
from kvtool.models.loading import Checkpoint
from kvtool.models.saliency import ClassAttention, mean_attention


class Aimv2(Encoder):
    """AIMv2's tower. A native one takes any size, another one the size of its position embeddings
    alone.
    """

    family = "aimv2"
    network = Aimv2VisionModel
    processor_class = CLIPImageProcessorPil
    interpolates = False
    has_class_token = False

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        size = checkpoint.settings.size
        if size.given and not self.config.is_native:
            raise UsageError(
                f"--image-size: expected an AIMv2 of native size, found {checkpoint.snapshot.name}"
                f", whose position embeddings are for {self.config.image_size} px; leave it out"
            )

    @property
    def has_saliency(self) -> bool:
        """Whether the checkpoint has its pooling head."""
        return bool(self.config.use_head)

    def saliency(
        self,
        patches: torch.Tensor,
        attention: ClassAttention | None,  # noqa: ARG002  its class token is the head's
    ) -> torch.Tensor:
        """See Encoder.saliency: of the pooling head's token, which asks the normed patches."""
        head = self.net.head
        # The head's own token asks, whatever the picture; patches are its keys.
        query = head.cls_token.expand(len(patches), -1, -1)
        head_dim = self.config.hidden_size // head.num_heads
        return mean_attention(query, head.k_proj(patches), head_dim)


class Aimv2OfTwo(Contrastive, Aimv2):
    """An Aimv2Model. Its pooling head, attending to one patch alone, leaves that patch's value."""

    towers = Aimv2Model
    loads_alone = False

    def pooled(self, patches: torch.Tensor) -> torch.Tensor:
        """See Contrastive.pooled."""
        # One patch is a sequence of its own, so that attention leaves its value.
        vectors: torch.Tensor = self.whole.visual_projection(self.net.head(patches[:, None]))
        return vectors

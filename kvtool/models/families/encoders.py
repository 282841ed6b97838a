"""Encoders alone, a class each: what differs between the towers of transformers."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from transformers import (
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    DINOv3ViTModel,
    MetaClip2VisionModel,
    SiglipImageProcessorPil,
    SiglipVisionModel,
    Tipsv2VisionModel,
    ViTImageProcessorPil,
    ViTModel,
)

from kvtool.models.encoder import Encoder
from kvtool.models.image_processors import DINOv3ViTImageProcessorPil, Tipsv2ImageProcessorPil
from kvtool.models.naflex import NaflexEncoder
from kvtool.models.saliency import ClassAttention, probe_attention


class Siglip(Encoder):
    """SigLIP's tower: a SiglipVisionModel, or that part of a SiglipModel. Checkpoints of SigLIP 2
    at one size are of these classes, too.
    """

    family = "siglip"
    network: ClassVar[Any] = SiglipVisionModel
    processor_class: ClassVar[Any] = SiglipImageProcessorPil
    has_class_token = False

    @property
    def has_saliency(self) -> bool:
        """Whether the checkpoint has its pooling head."""
        return bool(self.config.vision_use_head)

    def saliency(
        self,
        patches: torch.Tensor,
        attention: ClassAttention | None,  # noqa: ARG002  it has no class token
    ) -> torch.Tensor:
        """See Encoder.saliency: of the pooling head's probe, which asks the normed patches."""
        return probe_attention(self.net.head, patches)


class Siglip2(NaflexEncoder, Siglip):
    """SigLIP 2 at a picture's own aspect ratio (NaFlex)."""

    family = "siglip2"


class Clip(Encoder):
    """CLIP's tower: a CLIPVisionModel, or that part of a CLIPModel."""

    family = "clip"
    network: ClassVar[Any] = CLIPVisionModel
    processor_class = CLIPImageProcessorPil


class MetaClip2(Clip):
    """MetaCLIP 2's tower, built as CLIP's."""

    family = "metaclip_2"
    network = MetaClip2VisionModel


class Dino(Encoder):
    """DINO, a plain ViT without pooler.

    Where it segments videos, its own script makes the longer side a multiple of 64 px.
    """

    long_step_px = 64

    family = "vit"
    network = ViTModel
    processor_class = ViTImageProcessorPil
    options: ClassVar[dict[str, Any]] = {"add_pooling_layer": False}


class Dinov2(Encoder):
    """DINOv2, which interpolates its position embeddings by itself."""

    family = "dinov2"
    network: ClassVar[Any] = Dinov2Model
    processor_class: ClassVar[Any] = BitImageProcessorPil
    interpolates = False


class Dinov2WithRegisters(Dinov2):
    """DINOv2 with register tokens."""

    family = "dinov2_with_registers"
    network = Dinov2WithRegistersModel


class Tipsv2(Dinov2):
    """TIPSv2's tower: as DINOv2 with registers; its register is a second class token."""

    family = "tipsv2"
    network = Tipsv2VisionModel
    processor_class = Tipsv2ImageProcessorPil


class Dinov3(Dinov2):
    """DINOv3: register tokens; its rotary positions fit any size."""

    family = "dinov3_vit"
    network = DINOv3ViTModel
    processor_class = DINOv3ViTImageProcessorPil

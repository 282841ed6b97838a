"""Videos as transformers runs them: its processor and its whole prompt, without torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import BatchFeature, Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.models.qwen3_vl.video_processing_qwen3_vl import (
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen3_vl.video_processing_qwen3_vl import (
    smart_resize as smart_resize_all,
)
from transformers.video_utils import VideoMetadata

from tests.contracts.families.processors import own_processor

RATE = 3.0
"""Frames a second."""
CLASSES = {
    "qwen2_vl": "Qwen2VL",
    "qwen2_5_vl": "Qwen2_5_VL",
    "qwen3_vl": "Qwen3VL",
    "qwen3_vl_moe": "Qwen3VLMoe",
    "qwen3_5": "Qwen3_5",
    "qwen3_5_moe": "Qwen3_5Moe",
}
PROCESSORS = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL"}
"""What transformers' processors are called; of the newer families it is Qwen3-VL's."""
AREAS = (16 * 64, 80 * 64)
"""Smallest and largest area of the tiny checkpoints."""


@dataclass
class SlowFrames:
    """A video processor by the book: frames resized by Pillow, normalized in NumPy, and laid out
    by transformers' own function.
    """

    family: str
    image_mean: Sequence[float]
    image_std: Sequence[float]
    merge_size: int = 2
    temporal_patch_size: int = 2
    model_input_names: list[str] = field(default_factory=lambda: ["pixel_values_videos"])

    def size_px(self, wh_px: tuple[int, int], n_frames: int) -> tuple[int, int]:
        """(height, width) of the frames as transformers' function for the family has it."""
        width, height = wh_px
        if self.family not in PROCESSORS:
            size: tuple[int, int] = smart_resize_all(n_frames, height, width, 2, 8, *AREAS)
        else:
            size = smart_resize(height, width, 8, *AREAS)
        return size

    def __call__(self, videos: Any, **_: Any) -> BatchFeature:
        frames = videos[0]
        height, width = self.size_px(frames[0].size, len(frames))
        bicubic = Image.Resampling.BICUBIC
        pixels = np.stack([np.asarray(frame.resize((width, height), bicubic)) for frame in frames])
        mean, std = (np.array(n, np.float32) for n in (self.image_mean, self.image_std))
        normal = (pixels.astype(np.float32) / 255 - mean) / std
        stacked = torch.from_numpy(normal).permute(0, 3, 1, 2)[None]
        processor: Any = Qwen3VLVideoProcessor
        patches, *grid = processor.patchify(
            None, stacked, 4, self.merge_size, self.temporal_patch_size
        )
        metadata = VideoMetadata(len(frames), fps=RATE, frames_indices=list(range(len(frames))))
        return BatchFeature(
            {
                "pixel_values_videos": patches[0],
                "video_grid_thw": torch.tensor([grid]),
                "video_metadata": [metadata],
            }
        )


def own_network(family: str, folder: Path) -> Any:
    network = getattr(transformers, f"{CLASSES[family]}ForConditionalGeneration")
    return network.from_pretrained(folder, dtype=torch.float32).eval()


def own_inputs(
    family: str, folder: Path, frames: Sequence[Image.Image], prefix: str
) -> dict[str, Any]:
    """The whole prompt of a video and a question, as transformers' processor makes it."""
    module_name = family if family in PROCESSORS else "qwen3_vl"
    module = import_module(f"transformers.models.{module_name}.processing_{module_name}")
    images = Qwen2VLImageProcessorPil.from_pretrained(folder)
    slow = SlowFrames(family, images.image_mean, images.image_std)
    processor = own_processor(
        getattr(module, f"{PROCESSORS.get(family, 'Qwen3VL')}Processor"),
        Qwen2VLImageProcessorPil,
        folder,
        video_processor=slow,
    )
    content = [{"type": "image"}, {"type": "text", "text": "what is red"}]
    text = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    text = text.replace("<|vision_start|><|image_pad|>", f"{prefix}\n<|vision_start|><|video_pad|>")
    inputs = dict(processor(text=[text], videos=[list(frames)], return_tensors="pt"))
    inputs.pop("video_metadata", None)
    return inputs

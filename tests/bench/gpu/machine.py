"""What the sections share: the device, its clock, models, pictures, and rates to compare with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.bench.bench_capture import transformers_inputs
from tests.support.model_shapes import DRY_SHAPES, SHAPES, Shape, random_model

PHOTO_WH_PX = (640, 480)


@dataclass(frozen=True, eq=False)
class Bench:
    """A device and how much is done on it.

    Attributes:
        device: Where everything runs.
        folder: On the disk whose rate counts, for all that is written.
        memory_folder: On a file system in memory.
        n_images: The pictures of an extraction.
        batch: The pictures of a batch.
        is_dry: Whether models are tiny and everything is small.
    """

    device: torch.device
    folder: Path
    memory_folder: Path
    n_images: int = 256
    batch: int = 16
    is_dry: bool = False

    def seconds(self, work: Callable[[], Any], repeats: int = 2) -> float:
        """Return the least time that work takes, its last kernel included. It runs once before."""
        times = []
        for _ in range(1 if self.is_dry else repeats + 1):
            self.synchronize()
            started = time.perf_counter()
            work()
            self.synchronize()
            times.append(time.perf_counter() - started)
        return max(min(times[1:] or times), 1e-9)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @cached_property
    def peak_flops(self) -> float:
        """Operations a second of a large product of bfloat16 matrices, the most there is to get."""
        side = 128 if self.is_dry else 8192
        left, right = torch.randn(2, side, side, device=self.device).bfloat16()
        return 2 * side**3 / self.seconds(lambda: left @ right, repeats=5)

    @cached_property
    def subjects(self) -> dict[str, Subject]:
        """The models by size; each is made when it is first asked for."""
        shapes = DRY_SHAPES if self.is_dry else SHAPES
        return {size: Subject(self, shape, f"model-{size}") for size, shape in shapes.items()}

    @cached_property
    def pictures(self) -> Path:
        """A folder of photos' size in JPEG, smooth noise."""
        folder = self.folder / "pictures"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(self.n_images):
            pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            photo = Image.fromarray(pixels).resize(PHOTO_WH_PX, Image.Resampling.BICUBIC)
            photo.save(folder / f"{number:05d}.jpg")
        return folder


@dataclass(frozen=True, eq=False)
class Subject:
    """A model of one size, and what its prefill costs."""

    bench: Bench
    shape: Shape
    name: str

    @property
    def folder(self) -> Path:
        """Where the model's small files are."""
        return self.bench.folder / self.name

    @cached_property
    def model(self) -> Any:
        """The loaded model."""
        return random_model(self.shape, self.folder, self.bench.device)

    @cached_property
    def prepared(self) -> list[Any]:
        """The pictures made ready for the model."""
        paths = sorted(self.bench.pictures.iterdir())
        return [
            self.model.prepare(Image.open(path).convert("RGB"), id=path.name, index=number)
            for number, path in enumerate(paths)
        ]

    @cached_property
    def prefill(self) -> tuple[float, float]:
        """Pictures a second that transformers' own forward prefills, without a head, from inputs
        on the device; and the operations that a picture takes.
        """
        from torch.utils.flop_counter import FlopCounterMode

        size = self.bench.batch
        starts = range(0, len(self.prepared), size)
        inputs = [transformers_inputs(self.model, self.prepared[n : n + size]) for n in starts]

        @torch.inference_mode()
        def forward(batches: Sequence[dict[str, Any]]) -> None:
            """Run batches, and hold nothing of them."""
            for batch in batches:
                self.model.net.model(**batch, use_cache=True)

        with FlopCounterMode(display=False) as counter:
            forward(inputs[:1])
        n_first = len(inputs[0]["input_ids"])
        rate = len(self.prepared) / self.bench.seconds(lambda: forward(inputs))
        return rate, counter.get_total_flops() / n_first

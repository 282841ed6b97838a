"""The probes' kernels on one layer of a 7B model: all heads at once against a loop over them, on
the device and against the CPU, with equal answers.

A kernel's answers are compared value by value: as many as stated may differ by more than stated,
since sums are in another order where batches or devices differ, and what a rounding decides (the
fifth of the nearest neighbors, a start of k-means) may then go another way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kvtool.features import logistic
from kvtool.features.kmeans import assign, kmeans
from kvtool.features.layers import GridImage, upsample
from kvtool.features.neighbors import nearest
from kvtool.features.pixels import nearest_pixels
from kvtool.features.propagation import Context, Rule
from kvtool.types import GridSpan, Sample
from tests.bench.gpu.machine import Bench
from tests.bench.rows import Row, row

SIDE = 27
DIM = 128
WH_PX = (640, 480)
FRAMES = 9


@dataclass(frozen=True)
class Kernel:
    """What a probe computes of a layer.

    Attributes:
        task: Its name.
        inputs: Tensors whose first dimension is the head.
        compute: What is computed of some heads, with the head as first dimension.
        tolerance: By how much a value may differ.
        share: Which share of the values may differ by more.
    """

    task: str
    inputs: tuple[Tensor, ...]
    compute: Callable[..., Tensor]
    tolerance: float
    share: float

    def all_heads(self, device: torch.device) -> Callable[[], Tensor]:
        """Return what computes all heads at once, from inputs on a device."""
        inputs = tuple(tensor.to(device) for tensor in self.inputs)
        return lambda: self.compute(*inputs)

    def by_head(self, device: torch.device) -> Callable[[], Tensor]:
        """Return what computes a head after the other."""
        pieces = (torch.split(tensor.to(device), 1) for tensor in self.inputs)
        heads = list(zip(*pieces, strict=True))
        return lambda: torch.cat([self.compute(*inputs) for inputs in heads])

    def equal(self, first: Tensor, second: Tensor) -> float:
        """Return the share of the values that are equal within the tolerance."""
        difference = (first.double().cpu() - second.double().cpu()).abs()
        return float((difference <= self.tolerance).double().mean())


def kernels(is_dry: bool) -> list[Kernel]:
    """Return the kernel of each task, on random vectors of a layer's size."""
    torch.manual_seed(0)
    heads, side, supports = (2, 5, 2) if is_dry else (4, SIDE, 5)
    cells = side * side
    image = spectrum(heads, cells)
    span = GridSpan("base", 0, (side, side), side, (0.0, 0.0, WH_PX[0], WH_PX[1]))
    keypoints = spectrum(heads, 5 if is_dry else 400)
    training = spectrum(heads, supports * cells).float()
    truth = (training[..., :8].sum(-1) > 0)[:, :, None]
    frames = torch.stack([spectrum(heads, cells) for _ in range(3 if is_dry else FRAMES)], 1)
    masks = torch.nn.functional.one_hot(torch.arange(cells) % 4, 4).T.float().expand(heads, -1, -1)
    classes = spectrum(heads, 4 if is_dry else 919)
    return [
        Kernel("semantic-correspondence", (keypoints, image), matched_cells, 0, 1e-3),
        Kernel("upsampled correspondence", (keypoints[:, :8], image), _pixels_in(span), 1, 1e-2),
        Kernel("temporal-correspondence", (frames, masks), _propagation(side), 1e-4, 1e-2),
        Kernel("foreground-segmentation", (training, truth), foreground, 1e-3, 1e-3),
        Kernel("co-segmentation", (training,), inertia, 1e-2, 0),
        Kernel("semantic-segmentation", (classes, image), _class_maps(span), 1e-3, 1e-3),
    ]


def spectrum(heads: int, n: int) -> Tensor:
    """Return bfloat16 vectors (head, n, dim) with directions of very different strength."""
    mixing = torch.randn(heads, DIM, DIM) / DIM**0.5
    return torch.bmm(torch.randn(heads, n, DIM) * torch.logspace(0, -1, DIM), mixing).bfloat16()


def matched_cells(keypoints: Tensor, image: Tensor) -> Tensor:
    """Return the nearest cell of each keypoint."""
    return torch.from_numpy(nearest(keypoints, image)[1])


def _pixels_in(span: GridSpan) -> Callable[..., Tensor]:
    sample = Sample("0", 0, WH_PX, span.grid[0] ** 2, (span,), 0, (), "", (), 0, 0)

    def matched_pixels(keypoints: Tensor, image: Tensor) -> Tensor:
        """Return the nearest pixel (x, y) of each keypoint."""
        return torch.from_numpy(nearest_pixels(keypoints.float(), GridImage(sample, span, image)))

    return matched_pixels


def _propagation(side: int) -> Callable[..., Tensor]:
    def propagated(frames: Tensor, masks: Tensor) -> Tensor:
        """Return the last frame's soft masks."""
        context = Context(frames[:, 0], masks, (side, side), Rule())
        soft = masks
        for number in range(1, frames.shape[1]):
            soft = context.propagate(frames[:, number])
            context.add(frames[:, number], soft)
        return soft

    return propagated


def foreground(training: Tensor, truth: Tensor) -> Tensor:
    """Return the probability of each training patch under the fitted regression."""
    labels = truth[:, :, 0]
    fit = logistic.fit_standardized(training, labels, torch.ones_like(labels, dtype=torch.float32))
    logits = torch.bmm(training.double(), fit.weights[:, :, None])[:, :, 0] + fit.bias[:, None]
    return torch.sigmoid(logits)


def inertia(points: Tensor) -> Tensor:
    """Return the share of the squared lengths that is left within ten clusters."""
    distances = assign(points, kmeans(points, 10))[1]
    return distances.double().sum(1) / points.double().square().sum((1, 2))


def _class_maps(span: GridSpan) -> Callable[..., Tensor]:
    def class_maps(classes: Tensor, image: Tensor) -> Tensor:
        """Return the maps of a few classes on the pixels, after scores of all of them."""
        scores = torch.bmm(classes.float(), image.float().transpose(1, 2))
        return upsample(scores[:, :2] - scores.mean(1, keepdim=True), span, WH_PX)

    return class_maps


def probes(bench: Bench) -> list[Row]:
    """Each kernel's rate against a loop and against the CPU, and the share of equal answers."""
    rows: list[Row] = []
    for kernel in kernels(bench.is_dry):
        heads = len(kernel.inputs[0])
        ours, loop = kernel.all_heads(bench.device), kernel.by_head(bench.device)
        on_cpu = kernel.all_heads(torch.device("cpu"))
        answers, expected = ours(), on_cpu()
        rates = [heads / bench.seconds(work) for work in (ours, loop, on_cpu)]
        limits = f"within {kernel.tolerance:g} but for {kernel.share:.1%}"
        rows += [
            row(f"{kernel.task}: all heads / one by one", "blocks/s", rates[0], rates[1], 1.0),
            row(f"{kernel.task}: device / CPU", "blocks/s", rates[0], rates[2], 1.0),
            _equality(f"{kernel.task}: equal to the loop, {limits}", kernel, answers, loop()),
            _equality(f"{kernel.task}: equal to the CPU, {limits}", kernel, answers, expected),
        ]
    return rows


def _equality(name: str, kernel: Kernel, answers: Tensor, expected: Tensor) -> Row:
    return row(name, "share", kernel.equal(answers, expected), 1, 1 - kernel.share)

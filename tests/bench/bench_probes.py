"""The probes' kernels on blocks shaped as LLaVA-OneVision 7B's (4 heads, 729 tokens of 128), one
layer of its 28.

Linear probe: scikit-learn block by block, to the same optimum, on all cores. Propagation: the steps
of DINO's eval_video_segmentation.py, block by block, and a leaner version of them. Matching: block
by block, the block read from the same store and normalised once, then one matrix product a pair.
And how time and memory grow with the images.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.utils.parallel import Parallel, delayed
from torch.nn.functional import normalize

from kvtool.features import logistic
from kvtool.features.propagation import Context, Rule
from tests.bench.probe_blocks import DIM, GRID, HEADS, TOKENS, best_of, rated
from tests.bench.probe_matching import matching
from tests.bench.probe_scale import scale
from tests.bench.rows import Row, row


def bench() -> list[Row]:
    torch.manual_seed(0)
    return [linear_probe(), *propagation(), matching(), *scale()]


def correlated(heads: int, n: int) -> torch.Tensor:
    """Vectors with a spectrum: directions of very different strength, as value vectors have."""
    mixing = torch.randn(heads, DIM, DIM) / DIM**0.5
    return torch.bmm(torch.randn(heads, n, DIM), mixing) * torch.exp(
        0.7 * torch.randn(heads, 1, DIM)
    )


def linear_probe() -> Row:
    """Five supports of 729 patches, 16 blocks; both reach the optimum within 1e-6."""
    blocks, n = 16, 5 * TOKENS
    x = correlated(blocks, n)
    labels = (x[0, :, :20].sum(1) + 2 * torch.randn(n) > 4)[None]
    weights = torch.ones(1, n)
    solution = logistic.fit(x, labels, weights)

    def one(features: Any) -> Any:
        return LogisticRegression(tol=1e-6, max_iter=10_000, solver="newton-cholesky").fit(
            features, labels[0].numpy()
        )

    doubles = [block.double().numpy() for block in x]
    workers = Parallel(n_jobs=len(os.sched_getaffinity(0)))
    models = workers(delayed(one)(block) for block in doubles)
    peer_fit = logistic.LogisticFit(
        torch.from_numpy(np.concatenate([m.coef_ for m in models])),
        torch.from_numpy(np.concatenate([m.intercept_ for m in models])),
        solution.converged,
    )
    gap = (
        logistic.objective(x, labels, weights, solution)
        / logistic.objective(x, labels, weights, peer_fit)
        - 1
    )
    assert float(gap.max()) < 1e-6
    ours = best_of(
        3, lambda: [logistic.fit(part, labels, weights) for part in torch.split(x, HEADS)]
    )
    peer = best_of(3, lambda: workers(delayed(one)(block) for block in doubles))
    return rated(
        "five-shot linear probe, all heads at once / scikit-learn",
        "blocks/s",
        blocks,
        ours,
        peer,
        2.0,
    )


def propagation() -> list[Row]:
    """60 frames as a bfloat16 store holds them.

    The peers go block by block, so one block's rate is theirs.
    """
    frames, channels = 60, 4
    stored = torch.randn(frames, HEADS, TOKENS, DIM).bfloat16()
    first = torch.nn.functional.one_hot(torch.randint(channels, (TOKENS,)), channels).T.float()
    rows, cols = torch.arange(TOKENS) // GRID[1], torch.arange(TOKENS) % GRID[1]
    window = (((rows[:, None] - rows).abs() <= 12) & ((cols[:, None] - cols).abs() <= 12)).float()
    columns = stored[:, 0].float().transpose(1, 2).contiguous()

    def ours() -> list[torch.Tensor]:
        context, propagated = Context(stored[0], first.expand(HEADS, -1, -1), GRID, Rule()), []
        for values in stored[1:]:
            propagated.append(context.propagate(values))
            context.add(values, propagated[-1])
        return propagated

    def reference() -> list[torch.Tensor]:
        return propagate_block(columns, first, window, reference_weights)

    def lean() -> list[torch.Tensor]:
        return propagate_block(normalize(columns, dim=1), first, window, lean_weights)

    # A fifth neighbour as near as the sixth up to rounding may change places; all else agrees.
    for peer in (reference, lean):
        wrong = [
            ((a[0] - b).abs().amax(0) > 1e-4).float().mean().item()
            for a, b in zip(ours(), peer(), strict=True)
        ]
        assert max(wrong) < 0.01, max(wrong)
    timed = [(best_of(1, ours), best_of(1, reference), best_of(1, lean)) for _ in range(3)]
    ours_s, reference_s, lean_s = (min(seconds) for seconds in zip(*timed, strict=True))
    name, rate = "label propagation, 60 frames", frames - 1
    return [
        row(
            f"{name} / the reference's steps",
            "frames/s",
            HEADS * rate / ours_s,
            rate / reference_s,
            5.0,
        ),
        row(f"{name} / them without copies", "frames/s", HEADS * rate / ours_s, rate / lean_s, 3.0),
    ]


Weigh = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def propagate_block(
    feats: torch.Tensor, first: torch.Tensor, window: torch.Tensor, weigh: Weigh
) -> list[torch.Tensor]:
    """Soft masks of the frames after the first of one block, feats (frame, dim, token), as DINO's
    evaluation makes them: weights (context token, token) times the masks of frame 0 and the last
    seven.
    """
    masks = [first]
    for t in range(1, len(feats)):
        voters = [0, *range(1, t)[-7:]]
        masks.append(
            torch.cat([masks[i] for i in voters], dim=1) @ weigh(feats[t], feats[voters], window)
        )
    return masks[1:]


def reference_weights(
    frame: torch.Tensor, context: torch.Tensor, window: torch.Tensor
) -> torch.Tensor:
    """As the reference has it: every feature normalised for each frame, the frame repeated for each
    context frame, the affinities turned over, the five greatest of each column kept, divided into a
    new tensor.
    """
    frames = normalize(frame.T, dim=1)[None].repeat(len(context), 1, 1)
    affinity = torch.exp(torch.bmm(frames, normalize(context, dim=1)) / 0.1)
    affinity *= window
    affinity = affinity.transpose(2, 1).reshape(-1, affinity.shape[1])
    affinity[affinity < torch.topk(affinity, 5, dim=0).values.min(dim=0).values] = 0
    return affinity / affinity.sum(0, keepdim=True)


def lean_weights(frame: torch.Tensor, context: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """The same of features normalised once, the product made the right way round, divided in
    place.
    """
    affinity = torch.exp(torch.matmul(context.transpose(1, 2), frame) / 0.1)
    affinity *= window
    affinity = affinity.reshape(-1, frame.shape[1])
    affinity[affinity < torch.topk(affinity, 5, dim=0).values.min(dim=0).values] = 0
    affinity /= affinity.sum(0, keepdim=True)
    return affinity

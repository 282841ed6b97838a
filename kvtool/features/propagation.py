"""Label propagation as DINO's video evaluation does it (protocol 6), all heads of a layer at once.

A token's soft mask is the weighted mean of those of its nearest context tokens, by exp(cosine /
temperature), within a radius. The tokens of a grid row see the same rows of the context, and
products are made of those alone. The nearest are found without sorting: a column of the context
stands for its rows by its greatest product, and the k best tokens lie in the k best columns.

Memory: the context's vectors and masks, and for each thread the products of one head's BAND_TOKENS
tokens with them (on CUDA of all heads').
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from kvtool.features.neighbors import exact_products, greatest, inverse_norms

BAND_TOKENS = {"cpu": 243, "cuda": 2**14}
"""Tokens of neighbouring rows whose products are made at once: what suits a CPU's cache, or fills a
GPU."""


@dataclass(frozen=True)
class Rule:
    """How masks travel: context frames before the current one besides frame 0, patches in each
    direction, how many neighbours, and the temperature of their weights."""

    last_frames: int = 7
    radius: int = 12
    top: int = 5
    temperature: float = 0.1


class Context:
    """The frames that vote, of one grid: frame 0, and the last ones in turn.

    vectors (head, row, frame, col, dim), masks (head, channel, row, frame, col): frames lie side by
    side in each row, so that the rows which a token sees are one piece of memory. inverse_norms
    (head, row, frame, col) of the vectors.
    """

    def __init__(self, values: Tensor, masks: Tensor, grid: tuple[int, int], rule: Rule) -> None:
        """Frame 0: values (head, token, dim), soft masks (head, channel, token)."""
        self.grid = grid
        self.rule = rule
        self._added = 0
        self.of_bfloat16 = values.dtype == torch.bfloat16
        self.vectors, self.masks = self._on_grid(values, masks)
        self.inverse_norms = inverse_norms(self.vectors)
        self._bias = self._column_bias()

    def add(self, values: Tensor, masks: Tensor) -> None:
        """The next frame; it takes the place of the oldest but frame 0 once there are
        `last_frames`."""
        vectors, masks = self._on_grid(values, masks)
        norms = inverse_norms(vectors)
        if self._added < self.rule.last_frames:
            self.vectors = torch.cat([self.vectors, vectors], dim=2)
            self.inverse_norms = torch.cat([self.inverse_norms, norms], dim=2)
            self.masks = torch.cat([self.masks, masks], dim=3)
            self._bias = self._column_bias()
        else:
            slot = 1 + self._added % self.rule.last_frames
            self.vectors[:, :, slot], self.inverse_norms[:, :, slot] = (
                vectors[:, :, 0],
                norms[:, :, 0],
            )
            self.masks[:, :, :, slot] = masks[:, :, :, 0]
        self._added += 1

    def propagate(self, values: Tensor) -> Tensor:
        """Soft masks (head, channel, token) of a frame's values (head, token, dim): the weighted
        mean over the `top` context tokens of all frames jointly, and those exactly as near as the
        last of them."""
        queries = _full(values)
        sharpen = inverse_norms(queries)[:, :, None] / self.rule.temperature
        soft = queries.new_empty(*self.masks.shape[:2], queries.shape[1])
        on_cpu = queries.device.type == "cpu"
        rows = range(self.grid[0])
        at_once = max(1, BAND_TOKENS[queries.device.type] // self.grid[1])
        heads = [slice(i, i + 1) for i in range(len(queries))] if on_cpu else [slice(None)]

        def one(piece: tuple[slice, int]) -> None:
            self._band(piece[0], queries, sharpen, rows[piece[1] : piece[1] + at_once], soft)

        pieces = list(product(heads, rows[::at_once]))
        with exact_products(self.of_bfloat16):
            if on_cpu and torch.get_num_threads() > 1:
                _in_threads(one, pieces)
            else:
                list(map(one, pieces))
        return soft

    def _on_grid(self, values: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """(head, row, 1, col, dim) and (head, channel, row, 1, col)."""
        rows, cols = self.grid
        vectors = _full(values).reshape(len(values), rows, 1, cols, -1)
        return vectors, masks.reshape(*masks.shape[:2], rows, 1, cols)

    def _seen(self, row: int) -> slice:
        return slice(max(0, row - self.rule.radius), min(self.grid[0], row + self.rule.radius + 1))

    def _band(
        self, heads: slice, queries: Tensor, sharpen: Tensor, rows: range, soft: Tensor
    ) -> None:
        """Some heads and neighbouring rows of `soft` (head, channel, token): queries (head, token,
        dim) of the frame, and by what their products become exponents (head, token, 1)."""
        band = slice(rows[0] * self.grid[1], (rows[-1] + 1) * self.grid[1])
        seen = slice(self._seen(rows[0]).start, self._seen(rows[-1]).stop)
        within = [
            slice(of_row.start - seen.start, of_row.stop - seen.start)
            for of_row in map(self._seen, rows)
        ]
        products = self._products(heads, queries[heads, band], seen)
        top = self.rule.top
        scores, at = nearest_tokens(products, self._bias, within, top + 1)
        masks = self.masks[heads, :, seen].flatten(2)
        sharpen = sharpen[heads, band]
        if top > 1 and _tied(scores, top):
            near = _only_within(products, self._bias, within).flatten(2)
            kept = torch.where(near >= scores[:, :, top - 1, None], near, -torch.inf)
            soft[heads, :, band] = torch.bmm(
                masks, torch.softmax(kept * sharpen, dim=2).transpose(1, 2)
            )
            return
        weights = torch.softmax(scores[:, :, :top] * sharpen, dim=2)
        chosen = at[:, :, :top].flatten(1)[:, None].expand(-1, masks.shape[1], -1)
        voted = torch.gather(masks, 2, chosen).view(*masks.shape[:2], *weights.shape[1:])
        soft[heads, :, band] = (voted * weights[:, None]).sum(3)

    def _products(self, heads: slice, queries: Tensor, seen: slice) -> Tensor:
        """(head, query, row, frame * col): queries (head, query, dim) times the unit vectors of
        some rows."""
        vectors = self.vectors[heads, seen]
        count, rows, frames, cols, _ = vectors.shape
        products = queries.new_empty(count, queries.shape[1], rows * frames * cols)
        for head, out in enumerate(
            products
        ):  # one by one, as a batch of slices would be copied first
            torch.mm(queries[head], vectors[head].flatten(0, 2).T, out=out)
        products.mul_(self.inverse_norms[heads, None, seen].flatten(2))
        return products.view(count, -1, rows, frames * cols)

    def _column_bias(self) -> Tensor:
        """(col, frame * col): -inf where the columns are further apart than the radius, else 0."""
        at = torch.arange(self.grid[1], device=self.vectors.device)
        beyond = (at[:, None] - at).abs() > self.rule.radius
        bias = torch.zeros(beyond.shape, dtype=self.vectors.dtype, device=at.device).masked_fill_(
            beyond, -torch.inf
        )
        return bias.repeat(1, self.vectors.shape[2])


def nearest_tokens(
    products: Tensor, bias: Tensor, within: Sequence[slice], k: int
) -> tuple[Tensor, Tensor]:
    """The k best (or all) context tokens of each query: scores (head, query, k), best first, and
    row-major indices.

    products (head, query, row, column), the queries those of some rows. `within`: the context's
    rows that each row of queries sees; bias (col, column) is -inf where a query's column does not
    see the context's. There the score is -inf.
    """
    heads, queries, height, columns = products.shape
    by_row = products.view(heads, len(within), -1, height, columns)
    maxima = products.new_empty(heads, len(within), queries // len(within), columns)
    for i, rows in enumerate(within):
        torch.amax(by_row[:, i, :, rows], dim=2, out=maxima[:, i])
    best, best_at = greatest(maxima.add_(bias).flatten(1, 2), min(k, columns))
    candidates = torch.gather(products, 3, best_at[:, :, None].expand(-1, -1, height, -1))
    if (best[:, :, -1] == -torch.inf).any():
        candidates.masked_fill_((best == -torch.inf)[:, :, None], -torch.inf)
    of_rows = candidates.view(heads, len(within), -1, height, best.shape[2])
    for i, rows in enumerate(within):
        of_rows[:, i, :, : rows.start], of_rows[:, i, :, rows.stop :] = -torch.inf, -torch.inf
    scores, at = greatest(candidates.flatten(2), min(k, height * best.shape[2]))
    row = at // best.shape[2]
    candidate = at % best.shape[2]
    return scores, row * columns + torch.gather(best_at, 2, candidate)


def _in_threads(run: Callable[[Any], None], items: Sequence[Any]) -> None:
    """Every item on one of torch's threads alone. Threads that share each small operation wait for
    one another at its end, for a scheduler's whole turn where the machine has other work."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(run, items))
    finally:
        torch.set_num_threads(threads)


def _only_within(products: Tensor, bias: Tensor, within: Sequence[slice]) -> Tensor:
    """Products as in nearest_tokens, -inf where a token is not seen."""
    near = torch.full_like(products, -torch.inf)
    shape = (len(products), len(within), -1, *products.shape[2:])
    for i, rows in enumerate(within):
        near.view(shape)[:, i, :, rows] = products.view(shape)[:, i, :, rows] + bias[:, None]
    return near


def _tied(scores: Tensor, top: int) -> bool:
    """Whether some token's neighbour after the last is exactly as near."""
    return scores.shape[2] > top and bool((scores[:, :, top - 1] == scores[:, :, top]).any())


def _full(values: Tensor) -> Tensor:
    """Half precisions as float32."""
    return values if values.dtype == torch.float64 else values.float()

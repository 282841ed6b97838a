"""Label propagation as DINO's video evaluation does it (protocol 6), all heads of a layer at once.

A token's soft mask is the weighted mean of those of its nearest context tokens, by exp(cosine /
temperature), within a radius. The tokens of a grid row see the same rows of the context, so
products are computed with those rows alone. The nearest tokens are determined without sorting: a
column of the context stands for its rows by its greatest product, and the k best tokens lie in the
k best columns.

Memory: the context's vectors and masks, and for each thread the products of one head's BAND_TOKENS
tokens with them (on CUDA of all heads').
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from kvtool.features.products import exact_products, greatest, inverse_norms
from kvtool.features.threads import in_threads, lone_threads

BAND_TOKENS = {"cpu": 243, "cuda": 2**14}
"""Tokens of adjacent rows whose products are computed at once: what suits a CPU's cache, or fills a
GPU."""


@dataclass(frozen=True)
class Rule:
    """How masks travel from frame to frame.

    Args:
        last_frames: the context frames before the current one, besides frame 0.
        radius: the patches in each direction that a token sees.
        top: the number of neighbors that vote.
        temperature: the temperature of their weights.
    """

    last_frames: int = 7
    radius: int = 12
    top: int = 5
    temperature: float = 0.1


class Context:
    """The frames that vote, of one grid: frame 0, and the last ones in turn.

    vectors (head, row, frame, col, dim), masks (head, channel, row, frame, col): frames lie side by
    side in each row, so that the rows which a token sees are one piece of memory. inverse_norms
    (head, row, frame, col) belong to the vectors.
    """

    def __init__(self, values: Tensor, masks: Tensor, grid: tuple[int, int], rule: Rule) -> None:
        """Begin with frame 0: values (head, token, dim), soft masks (head, channel, token)."""
        self.grid = grid
        self.rule = rule
        self._added = 0
        self.of_bfloat16 = values.dtype == torch.bfloat16
        self.vectors, self.masks = self._on_grid(values, masks)
        self.inverse_norms = inverse_norms(self.vectors)
        self._bias = self._column_bias()

    def add(self, values: Tensor, masks: Tensor) -> None:
        """Add the next frame; it replaces the oldest but frame 0 once there are `last_frames`."""
        with lone_threads(values.device):
            self._add(*self._on_grid(values, masks))

    def _add(self, vectors: Tensor, masks: Tensor) -> None:
        """Add what lies on the grid: vectors (head, row, 1, col, dim), masks (head, channel, row,
        1, col)."""
        norms = inverse_norms(vectors)
        if self._added < self.rule.last_frames:
            self.vectors = torch.cat([self.vectors, vectors], dim=2)
            self.inverse_norms = torch.cat([self.inverse_norms, norms], dim=2)
            self.masks = torch.cat([self.masks, masks], dim=3)
            self._bias = self._column_bias()
        else:
            # Frame 0 stays in slot 0; the others take turns.
            slot = 1 + self._added % self.rule.last_frames
            self.vectors[:, :, slot] = vectors[:, :, 0]
            self.inverse_norms[:, :, slot] = norms[:, :, 0]
            self.masks[:, :, :, slot] = masks[:, :, :, 0]
        self._added += 1

    def propagate(self, values: Tensor) -> Tensor:
        """Return the soft masks (head, channel, token) of a frame's values (head, token, dim).

        Each is the weighted mean over the `top` context tokens of all frames jointly, and those
        exactly as near as the last of them.
        """
        on_cpu = values.device.type == "cpu"
        # Torch's own threads rest: bands of rows are what runs side by side.
        with lone_threads(values.device) as threads, exact_products(self.of_bfloat16):
            queries = _full(values)
            # The query's norm and the temperature turn products with unit vectors into exponents.
            sharpen = inverse_norms(queries)[:, :, None] / self.rule.temperature
            soft = queries.new_empty(*self.masks.shape[:2], queries.shape[1])
            rows = range(self.grid[0])
            at_once = max(1, BAND_TOKENS[queries.device.type] // self.grid[1])
            # On a CPU a head at a time fits the cache; on a GPU all heads fill it.
            heads = [slice(i, i + 1) for i in range(len(queries))] if on_cpu else [slice(None)]

            def propagate_band(piece: tuple[slice, int]) -> None:
                """Propagate one band of rows of some heads."""
                self._band(piece[0], queries, sharpen, rows[piece[1] : piece[1] + at_once], soft)

            pieces = list(product(heads, rows[::at_once]))
            in_threads(propagate_band, pieces, threads)
        return soft

    def _on_grid(self, values: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return vectors (head, row, 1, col, dim) and masks (head, channel, row, 1, col)."""
        rows, cols = self.grid
        vectors = _full(values).reshape(len(values), rows, 1, cols, -1)
        return vectors, masks.reshape(*masks.shape[:2], rows, 1, cols)

    def _seen(self, row: int) -> slice:
        """Return the context's rows that a token of this row sees."""
        return slice(max(0, row - self.rule.radius), min(self.grid[0], row + self.rule.radius + 1))

    def _band(
        self, heads: slice, queries: Tensor, sharpen: Tensor, rows: range, soft: Tensor
    ) -> None:
        """Fill some heads and adjacent rows of `soft` (head, channel, token).

        queries (head, token, dim) are the frame's vectors, sharpen (head, token, 1) the factors by
        which their products become exponents.
        """
        band = slice(rows[0] * self.grid[1], (rows[-1] + 1) * self.grid[1])
        # The context's rows that any row of the band sees, and each row's part of them.
        seen = slice(self._seen(rows[0]).start, self._seen(rows[-1]).stop)
        within = [
            slice(context_rows.start - seen.start, context_rows.stop - seen.start)
            for context_rows in map(self._seen, rows)
        ]
        products = self._products(heads, queries[heads, band], seen)
        top = self.rule.top
        # One token more than `top` shows whether the last place is shared.
        scores, tokens = nearest_tokens(products, self._bias, within, top + 1)
        # Row, frame and column in one, in the order that the token indices have.
        masks = self.masks[heads, :, seen].flatten(2)
        sharpen = sharpen[heads, band]
        if top > 1 and _tied(scores, top):
            # All tokens as near as the last vote: the weights are over the whole context.
            visible = _only_within(products, self._bias, within).flatten(2)
            nearest = torch.where(visible >= scores[:, :, top - 1, None], visible, -torch.inf)
            soft[heads, :, band] = torch.bmm(
                masks, torch.softmax(nearest * sharpen, dim=2).transpose(1, 2)
            )
            return
        # Without ties, only the masks of the `top` voters are gathered.
        weights = torch.softmax(scores[:, :, :top] * sharpen, dim=2)
        voters = tokens[:, :, :top].flatten(1)[:, None].expand(-1, masks.shape[1], -1)
        voted = torch.gather(masks, 2, voters).view(*masks.shape[:2], *weights.shape[1:])
        soft[heads, :, band] = (voted * weights[:, None]).sum(3)

    def _products(self, heads: slice, queries: Tensor, seen: slice) -> Tensor:
        """Return (head, query, row, frame * col): queries (head, query, dim) times the unit vectors
        of some rows."""
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
        """Return (col, frame * col): -inf where the columns are further apart than the radius, else
        0."""
        columns = torch.arange(self.grid[1], device=self.vectors.device)
        # Distance in columns between a query and a token of the context.
        beyond = (columns[:, None] - columns).abs() > self.rule.radius
        bias = torch.zeros(
            beyond.shape, dtype=self.vectors.dtype, device=columns.device
        ).masked_fill_(beyond, -torch.inf)
        # The frames lie side by side in a row, so the pattern repeats for each.
        return bias.repeat(1, self.vectors.shape[2])


def nearest_tokens(
    products: Tensor, bias: Tensor, within: Sequence[slice], k: int
) -> tuple[Tensor, Tensor]:
    """Return the k best (or all) context tokens of each query: scores (head, query, k), best first,
    and row-major indices.

    Where a query does not see a token, the score is -inf.

    Args:
        products: (head, query, row, column), the queries those of some rows.
        bias: (col, column), -inf where a query's column does not see the context's.
        within: the context's rows that each row of queries sees.
        k: the number of tokens.
    """
    heads, queries, height, columns = products.shape
    # From the position among the candidates back to row and column of the context.
    by_row = products.view(heads, len(within), -1, height, columns)
    # The greatest product of each column over the rows that the query sees.
    maxima = products.new_empty(heads, len(within), queries // len(within), columns)
    for i, rows in enumerate(within):
        torch.amax(by_row[:, i, :, rows], dim=2, out=maxima[:, i])
    # The k best tokens lie in the k columns with the greatest maxima.
    best, best_at = greatest(maxima.add_(bias).flatten(1, 2), min(k, columns))
    candidates = torch.gather(products, 3, best_at[:, :, None].expand(-1, -1, height, -1))
    if (best[:, :, -1] == -torch.inf).any():
        # Fewer than k columns are in sight: the others do not count.
        candidates.masked_fill_((best == -torch.inf)[:, :, None], -torch.inf)
    # Rows out of sight do not count either.
    candidate_rows = candidates.view(heads, len(within), -1, height, best.shape[2])
    for i, rows in enumerate(within):
        candidate_rows[:, i, :, : rows.start] = -torch.inf
        candidate_rows[:, i, :, rows.stop :] = -torch.inf
    scores, positions = greatest(candidates.flatten(2), min(k, height * best.shape[2]))
    row = positions // best.shape[2]
    candidate = positions % best.shape[2]
    return scores, row * columns + torch.gather(best_at, 2, candidate)


def _only_within(products: Tensor, bias: Tensor, within: Sequence[slice]) -> Tensor:
    """Return products as in nearest_tokens, -inf where a token is not seen."""
    # Of the whole context, as a tie may lie in any column.
    visible = torch.full_like(products, -torch.inf)
    shape = (len(products), len(within), -1, *products.shape[2:])
    for i, rows in enumerate(within):
        visible.view(shape)[:, i, :, rows] = products.view(shape)[:, i, :, rows] + bias[:, None]
    return visible


def _tied(scores: Tensor, top: int) -> bool:
    """Tell whether some token's neighbor after the last is exactly as near."""
    return scores.shape[2] > top and bool((scores[:, :, top - 1] == scores[:, :, top]).any())


def _full(values: Tensor) -> Tensor:
    """Return half precisions as float32."""
    return values if values.dtype == torch.float64 else values.float()

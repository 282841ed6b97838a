"""Every head alone: what texts say with each single head blocked, all heads in one pass.

What stands before a head's layer is the same whether the head is blocked or not. So the texts run
once without a knockout, and at the layer of a head a further row branches off, in which the head is
blocked: a layer runs no row of a head that lies above it. The texts of an image are one row, in
which their common beginnings stand once (kvtool.models.text_tree); a layer runs so many rows at
once as fast memory holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from kvtool.models.attention import AttentionCall, acting
from kvtool.models.cache import widen
from kvtool.models.decoder_geometry import readers
from kvtool.models.knockout import Blocked, group_heads
from kvtool.models.methods import Head
from kvtool.models.text_tree import TextTree, TreeModel
from kvtool.types import Sample

TEXTS = 16
"""Texts in one row at most: a row's tokens are compared with all of one another."""
PART_TOKENS = 2048
"""Tokens that a layer runs at once, unless one row has more: what lies between its steps stays in
fast memory."""
PART_BYTES = 2**30
"""What keys, values and masks of these take at most, unless one row takes more."""
STATES_BYTES = 2**30
"""What the states of all rows between two layers take at most."""


@torch.inference_mode()
def single_head_logits(
    model: TreeModel,
    cache: Any,
    sample: Sample,
    texts: Sequence[str],
    heads: Sequence[Head],
    tokens: Sequence[Sequence[int]],
) -> list[torch.Tensor]:
    """Compute what follows each text after an image, without a knockout and with each head alone
    blocked from the image.

    The cache stays as it was. Raises UsageError for heads the decoder does not have.

    Args:
        model: A loaded model.
        cache: Of the prompt up to the image, one row, as `restore` builds it.
        sample: The image.
        texts: What follows the image, each by itself.
        heads: (layer, kv_head) in the order of their layers.
        tokens: Of each text the token ids that may follow.

    Returns:
        Of each text the logits of these tokens after its last one, a float32 tensor on the CPU,
        (1 + head, token): first those without a knockout.
    """
    # A state that is handed from token to token knows a single text alone.
    n_texts = 1 if model.info.geometry.recurrent else TEXTS
    logits: list[torch.Tensor] = []
    for start in range(0, len(texts), n_texts):
        span = slice(start, start + n_texts)
        logits += _joined_logits(model, cache, sample, texts[span], heads, tokens[span])
    return logits


def _joined_logits(
    model: TreeModel,
    cache: Any,
    sample: Sample,
    texts: Sequence[str],
    heads: Sequence[Head],
    tokens: Sequence[Sequence[int]],
) -> list[torch.Tensor]:
    """Compute the same of texts that run as one row."""
    # What the model puts between image and text stands before all texts alike.
    n_between = model.image_end(sample) - sample.image_start - sample.n_tokens
    tree = TextTree.of([model.token_ids(text) for text in texts], n_between)
    n_rows, n_part = rows_at_once(model, cache, len(tree.depths))
    chunks = []
    for start in range(0, len(heads), n_rows):
        # Heads in the order of their layers: rows begin as late as they can.
        with _branching(model, sample, tree, heads[start : start + n_rows], n_part):
            states = model.follow_tree(cache, sample, tree)
        # Each chunk begins with the row without a knockout.
        chunks.append(states[1:] if start else states)
    states = torch.cat(chunks)
    return [_logits(model, states[:, text], token_ids) for text, token_ids in enumerate(tokens)]


def _logits(model: TreeModel, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """Return the logits of some tokens (row, token) after last hidden states (row, hidden)."""
    # Those of the whole vocabulary are there for some rows at a time.
    parts = [model.head(rows)[:, list(tokens)].float().cpu() for rows in torch.split(states, 128)]
    return torch.cat(parts)


def rows_at_once(model: TreeModel, cache: Any, n_queries: int) -> tuple[int, int]:
    """Return how many heads' rows pass through the layers together, and how many of them a layer
    runs at once.
    """
    geometry = model.info.geometry
    n_keys = cache.get_seq_length() + n_queries
    # Keys and values of four bytes a number, a mask of bools, and the same as numbers to add.
    key_bytes = 8 * geometry.kv_heads * geometry.head_dim
    # Per row the keys and values that it sees, and its masks.
    row_bytes = n_keys * (key_bytes + 5 * geometry.q_heads * n_queries)
    n_part = max(1, min(PART_TOKENS // n_queries, PART_BYTES // row_bytes))
    if shares_keys(model):
        # One part then: rows of a later layer read the keys of an earlier one's rows.
        return n_part, n_part + 1
    return max(1, STATES_BYTES // (4 * geometry.hidden * n_queries)), n_part


def shares_keys(model: TreeModel) -> bool:
    """Tell whether layers read the keys of another one: they need as many rows as it has, at once
    and all from the first layer on.
    """
    return any(len(numbers) > 1 for numbers in readers(model.language_model.config).values())


@contextmanager
def _branching(
    model: TreeModel, sample: Sample, tree: TextTree, heads: Sequence[Head], n_part: int
) -> Iterator[None]:
    """Within, a pass of one row gets a further row at the layer of each head, where it is
    blocked.
    """
    layers = model.language_model.layers
    starts = [0 if shares_keys(model) else layer for layer, _ in heads]
    # How many rows each layer runs, the one without a knockout among them.
    n_rows = [1 + n for n in accumulate(starts.count(number) for number in range(len(layers)))]
    blocked = _blocked(heads, n_rows, model)
    image = (sample.image_start, model.image_end(sample))
    branching = {
        number: BranchingLayer(number, layer, blocked[number], image, tree, n_part)
        for number, layer in enumerate(layers)
    }
    acts = {
        number: layer.act
        for number, layer in branching.items()
        if hasattr(layers[number], "self_attn")
    }
    # Layers of linear attention have no attention to step into.
    with acting(model, acts), ExitStack() as stack:
        for layer in branching.values():
            stack.enter_context(layer.in_place())
        yield


def _blocked(
    heads: Sequence[Head], n_rows: Sequence[int], model: TreeModel
) -> Mapping[int, torch.Tensor]:
    """Return by layer which query heads are blocked in which row, (row, q_head) bool."""
    q_heads = model.info.geometry.q_heads
    reading = readers(model.language_model.config)
    blocked = {layer: torch.zeros(n, q_heads, dtype=torch.bool) for layer, n in enumerate(n_rows)}
    for row, head in enumerate(heads, 1):
        # All query heads that share the blocked head's keys and values.
        (mask,) = group_heads([head], model.info.geometry).values()
        for reader in reading[head[0]]:
            blocked[reader][row] = mask
    return blocked


@dataclass
class BranchingLayer:
    """A decoder layer in which further rows begin, equal to the first one but for what they see.

    Attributes:
        number: The layer's.
        module: The layer.
        blocked: Which query heads do not see the image in which row, (row, q_head) bool; rows that
            do not come in begin here.
        image: The positions of the image's first token and of the first one after it.
        tree: The texts.
        n_part: The number of rows that run at once.
    """

    number: int
    module: nn.Module
    blocked: torch.Tensor
    image: tuple[int, int]
    tree: TextTree
    n_part: int
    _part: torch.Tensor | None = None
    """Of the rows that run now, what is blocked."""
    _visible: torch.Tensor | None = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the layer runs by parts, and puts out more rows than it gets."""
        # Where a layer has been given a forward of its own, as one of several devices has, it goes
        # on through that.
        before = vars(self.module).get("forward")
        forward = self.module.forward

        def run(states: torch.Tensor, *inputs: Any, **options: Any) -> torch.Tensor:
            """Run all rows."""
            return self._run(forward, states, inputs, options)

        self.module.forward = run
        try:
            yield
        finally:
            del self.module.forward
            if before is not None:
                self.module.forward = before

    def act(self, call: AttentionCall) -> torch.Tensor:
        """Return what is visible in the rows that run now."""
        # The tree's mask is the same for all parts of a layer.
        if self._visible is None:
            self._visible = self.tree.visible(call.visible())
        if self._part is None or not self._part.any():
            return self._visible
        start, stop = (torch.tensor([[position]]) for position in self.image)
        blocked = Blocked(self._part, start, stop).to(call.keys.device)
        return blocked(replace(call, mask=self._visible))

    def _run(
        self,
        forward: Callable[..., torch.Tensor],
        states: torch.Tensor,
        inputs: Sequence[Any],
        options: Mapping[str, Any],
    ) -> torch.Tensor:
        """Run the rows that come in and those that begin here, some at a time."""
        n_new = len(self.blocked) - len(states)
        # New rows are copies of the first, which nothing has been blocked in so far.
        states = torch.cat([states, states[:1].expand(n_new, *states.shape[1:])])
        cached = options["past_key_values"].layers
        # Empty where a layer has no cache of its own, but reads another one's.
        spot = slice(self.number, self.number + 1)
        before = cached[spot]
        outputs = []
        self._visible = None
        parts = zip(
            *(torch.split(rows, self.n_part) for rows in (states, self.blocked)), strict=True
        )
        for part, self._part in parts:
            # Each part goes on from the same cache: what it adds must not reach the next.
            cached[spot] = map(copy, before)
            for cache_layer in cached[spot]:
                widen(cache_layer, len(part))
            outputs.append(forward(part, *inputs, **options))
        # Shared keys are read by later layers; all others have served.
        cached[spot] = before
        return torch.cat(outputs)

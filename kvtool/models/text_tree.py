"""Texts that begin alike as one row of tokens: what they have in common stands there once.

Each token sees the image and the tokens before it in its own text, so that all texts about an image
run together, whatever their lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from kvtool.models.base import LanguageModel
from kvtool.types import Sample


@dataclass(frozen=True)
class TextTree:
    """Texts after an image, by their tokens.

    Attributes:
        ids: The tokens' ids, (token - between,): what stands between image and text has none.
        depths: How many tokens stand before each in its text, (token,).
        ancestors: Which tokens each sees, itself among them, (token, token) bool.
        ends: The last token of each text, (text,).
    """

    ids: torch.Tensor
    depths: torch.Tensor
    ancestors: torch.Tensor
    ends: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], n_between: int = 0) -> TextTree:
        """Join texts.

        Args:
            texts: The token ids of each.
            n_between: The number of tokens between the image and all texts, such as LLaVA's
                newline.
        """
        # What stands between image and texts is a chain that every text begins with.
        parents = list(range(-1, n_between - 1))
        ids: list[int] = []
        ends: list[int] = []
        # A token is known by the one before it and its id.
        branches: dict[tuple[int, int], int] = {}
        for text in texts:
            node = n_between - 1
            for token in text:
                if (node, token) not in branches:
                    branches[node, token] = len(parents)
                    parents.append(node)
                    ids.append(token)
                node = branches[node, token]
            ends.append(node)
        # Parents come before their children, so that one pass passes ancestors on.
        ancestors = torch.eye(len(parents), dtype=torch.bool)
        for node, parent in enumerate(parents):
            if parent >= 0:
                ancestors[node] |= ancestors[parent]
        depths = ancestors.sum(dim=1) - 1
        return cls(torch.tensor(ids, dtype=torch.long), depths, ancestors, torch.tensor(ends))

    def visible(self, mask: torch.Tensor) -> torch.Tensor:
        """Return what the tokens see of a cache and of one another, (..., token, cache + token)
        bool.

        mask: What a single text's tokens see, which stand at the same places as these: sliding
            windows, too.
        """
        depths, ancestors = self.depths.to(mask.device), self.ancestors.to(mask.device)
        # The mask is of a single text, whose tokens stand behind what is cached.
        n_cached = mask.shape[-1] - len(depths)
        cached = torch.arange(n_cached, device=mask.device)
        # A token sees what one as deep in a single text would see, where that is of its text.
        seen = mask[..., depths, :][..., torch.cat([cached, n_cached + depths])]
        # All that is cached stands before every text; among the texts a token sees its own.
        everything = ancestors.new_ones(len(depths), n_cached)
        return seen & torch.cat([everything, ancestors], dim=1)


@runtime_checkable
class TreeModel(LanguageModel, Protocol):
    """A model that goes on from a cache with a tree of texts, as every family's does."""

    def follow_tree(self, cache: Any, sample: Sample, tree: TextTree) -> torch.Tensor:
        """Last hidden states (row, text, hidden) at the end of each text, from a cache of one row.

        Every layer's attention has to be told what a tree's tokens see (TextTree.visible).
        """
        ...

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (..., vocabulary) of last hidden states, in the model's precision."""
        ...

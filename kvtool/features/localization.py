"""Localization heads: the few that look at what a text is about, found without any mask.

The method is that of Kang et al. 2025, "Your large vision-language model only needs a few attention
heads for visual grounding": among the heads that look at the picture at all (the sum of their
attention on it, before the elbow of the sorted sums), those are counted that are among the ten of
the lowest spatial entropy for a text; the heads that are so most often are the localization heads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kvtool.features.attention_maps import Array

CANDIDATES = 10
"""Heads of the lowest spatial entropy that count for a text."""
HEADS = 3
"""Localization heads that are taken, unless another number is asked for."""


def elbow(values: Array) -> float:
    """Return the last value before a falling curve bends most, where it is farthest below the
    straight line between its ends; of values on a line, or above it, the lowest.
    """
    curve = np.sort(np.asarray(values, np.float64))[::-1]
    # Both axes from 0 to 1, so that depths do not depend on the units.
    across = np.linspace(0.0, 1.0, len(curve))
    span = curve[0] - curve[-1]
    # A level curve has no bend.
    if span <= 0:
        return float(curve[-1])
    # Below the line from the highest to the lowest, by how much.
    depth = (1 - across) - (curve - curve[-1]) / span
    deepest = int(depth.argmax())
    # A depth of 0 is the line itself, up to rounding.
    return float(curve[deepest - 1]) if depth[deepest] > 1e-12 else float(curve[-1])


@dataclass
class HeadChoice:
    """Sums over texts by which localization heads are chosen.

    Attributes:
        n_heads: The number of heads.
        mass: The sum of each head's attention on the picture, (head,).
        entropies: The spatial entropy of each text's maps, (head,) each.
    """

    n_heads: int
    mass: Array = field(init=False)
    entropies: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mass = np.zeros(self.n_heads)

    def add(self, entropies: Array, mass: Array) -> None:
        """Take in a text: the spatial entropy of each head's map, and its attention on all of the
        picture, (head,) each.
        """
        self.mass += mass
        self.entropies.append(entropies)

    def candidates(self) -> Array:
        """Return the heads that look at the picture at all, (candidate,) indices."""
        return np.flatnonzero(self.mass >= elbow(self.mass))

    def frequencies(self) -> Array:
        """Return for which share of the texts each head is among those of the lowest spatial
        entropy, (head,).
        """
        counts = np.zeros(self.n_heads)
        candidates = self.candidates()
        for entropies in self.entropies:
            # Of equals those that look at the picture most.
            order = np.lexsort((-self.mass[candidates], entropies[candidates]))
            lowest = candidates[order[:CANDIDATES]]
            # An infinite entropy is that of an even map, which points at nothing.
            counts[lowest[np.isfinite(entropies[lowest])]] += 1
        return counts / max(1, len(self.entropies))

    def heads(self, count: int = HEADS) -> list[int]:
        """Return the indices of the localization heads, the most frequent first; of equals those of
        the lower mean spatial entropy.
        """
        frequencies = self.frequencies()
        mean = np.mean(self.entropies, axis=0) if self.entropies else np.zeros(self.n_heads)
        # The last key of lexsort is the first one that counts.
        order = np.lexsort((mean, -frequencies))
        return [int(head) for head in order[:count] if frequencies[head] > 0]

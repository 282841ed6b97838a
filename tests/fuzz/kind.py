"""What the harness asks of a kind of hostile input."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar


class Kind(ABC):
    """One kind. The seeds are written once, in a process of its own; inputs are tried in forked
    workers.
    """

    name: ClassVar[str]
    share: ClassVar[float]
    """Of all inputs of a campaign; shares sum to 1."""

    def __init__(self, seeds: Path) -> None:
        self.seeds = seeds

    @abstractmethod
    def write_seeds(self) -> None:
        """Write the seed corpus below `seeds`, made by the tests' own builders."""

    @abstractmethod
    def open(self) -> None:
        """Import what the inputs need and read the seeds; once, before workers are forked."""

    @abstractmethod
    def attempt(self, rng: random.Random, folder: Path) -> None:
        """Make one input in an empty folder and use it.

        KvtoolError: refused. Finding: a fault that is no exception.
        """

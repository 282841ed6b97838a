"""The embedded world on disk, for tests that only read it."""

from __future__ import annotations

from pathlib import Path


class World:
    """Data sets of the embedded world, drawn when a test first names them.

    Attributes:
        root: The folder that holds them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *layouts: str) -> Path:
        """Return the folder with a folder for each of these data sets, and for others by chance."""
        # NumPy comes after tests/conftest.py has said how many threads it may have.
        from kvtool.demo.layouts import write_scenes

        write_scenes(self.root, only=layouts)
        return self.root

"""Hostile input: seeded mutations of every file, argument and variable that kvtool reads.

`python -m tests.fuzz`.
"""

from tests.fuzz.running import campaign

__all__ = ["campaign"]

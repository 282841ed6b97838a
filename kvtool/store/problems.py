"""What `store verify` finds: problems, and what `store repair` does about each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kvtool.errors import CorruptError, StoreError
from kvtool.store import layout

Mend = Literal["", "drop", "group", "restore", "copy", "forget"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; run, part and array are empty where it lies above them.

    mend: what `store repair` does about `target`: drop it; write an empty group's zarr.json;
    restore zarr.json from its copy; make that copy again; forget that it was committed; or nothing.
    """

    run: str
    part: str
    array: str
    what: str
    mend: Mend = field(default="", compare=False)
    target: Path | None = field(default=None, compare=False)

    def row(self) -> dict[str, str]:
        """Return the columns of a table."""
        return {"run": self.run, "part": self.part, "array": self.array, "what": self.what}


def unreadable(label: str, error: StoreError | OSError) -> Problem:
    """Return a problem of a unit, told from its label, e.g. runs/<run>/parts/<part>."""
    what = f"{label}: cannot be read: {getattr(error, 'strerror', None) or error}"
    # The label's parts say where it lies: runs/<run>/<group>/<name>.
    root, _, member = label.partition("/")
    run, _, part = member.partition("/") if root == "runs" else ("", "", "")
    return Problem(run, part.removeprefix("parts/"), "", what)


def drop_if_corrupt(error: StoreError) -> Mend:
    """Return "drop" for bytes that are wrong; bytes that could not be read may be right."""
    return "drop" if isinstance(error, CorruptError) else ""


def foreign_files(
    folder: Path, expected: set[str], run: str, part: str, array: str
) -> Iterator[Problem]:
    """Yield a problem for each entry of a folder that is not expected there."""
    for path in layout.entries(folder):
        if path.name not in expected:
            yield Problem(run, part, array, f"{path.name}: not a file of kvtool")

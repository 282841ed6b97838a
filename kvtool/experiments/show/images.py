"""The images that a picture is asked of."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from kvtool.errors import UsageError
from kvtool.store.run import Run


def check_images(run: Run, wanted: Sequence[str]) -> None:
    """Raises UsageError that names the nearest ids which the run has."""
    known = run.ids
    for image in sorted(set(wanted) - set(known)):
        near = get_close_matches(image, known, n=3, cutoff=0.4)
        listed = (
            f"{'nearest' if near else 'for example'}: {', '.join(map(repr, near or known[:3]))}"
        )
        raise UsageError(
            f"show: no image {image!r} among the {len(known)} of run {run.name}; {listed}"
        )

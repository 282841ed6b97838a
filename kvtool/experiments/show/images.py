"""The images that a picture is asked of."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from kvtool.errors import UsageError
from kvtool.store.run import Run


def check_images(run: Run, ids: Sequence[str]) -> None:
    """Check that the run has the images. Raises UsageError that names the nearest ids."""
    run_ids = run.ids
    for image in sorted(set(ids) - set(run_ids)):
        similar = get_close_matches(image, run_ids, n=3, cutoff=0.4)
        listed = (
            f"{'nearest' if similar else 'for example'}: "
            f"{', '.join(map(repr, similar or run_ids[:3]))}"
        )
        raise UsageError(
            f"show: no image {image!r} among the {len(run_ids)} of run {run.name}; {listed}"
        )

"""Results that a store keeps of a run as it is now."""

from __future__ import annotations

from collections.abc import Iterator

from kvtool.result import Result, results_among
from kvtool.store import Run, open_store


def kept_results(run: Run, command: str) -> Iterator[Result]:
    """Those of a command over all images that the run holds, the last first."""
    images = run.images_hash()
    for result in results_among(open_store(run.store).results()):
        config = result.config
        same = config.get("run_hash") == run.config.hash and config.get("images_hash") == images
        if same and result.command == command and "ids_hash" not in config:
            yield result

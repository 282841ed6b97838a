"""Values that are not finite: whoever extracts is told which layers and heads hold some, and what
to do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kvtool.store import RunConfig
from kvtool.store.nonfinite import WHAT, StoredBlock, describe

OVERFLOW = "float16 overflows above 65504: extract with --dtype bfloat16"
UNKNOWN = "the model's weights or activations hold them: look whether its answers make sense"


def warn_of_nonfinite(
    config: RunConfig, blocks: Iterable[StoredBlock], told: set[StoredBlock]
) -> None:
    """Warn of the blocks of a run of which nobody was told yet; `told` takes them in."""
    # Each block is told once, however many parts hold it.
    new = set(blocks) - told
    if not new:
        return
    told |= new
    logging.getLogger("kvtool").warning(
        "run %s: %s in %s; no probe scores these blocks; %s",
        config.run_name,
        WHAT,
        describe(new, config),
        OVERFLOW if config.model.dtype == "float16" else UNKNOWN,
    )

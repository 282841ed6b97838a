"""How long workers that are told to stop have, and the end of processes that take longer."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

PATIENCE_S = 20.0
"""How long workers that are told to stop have to release their claims."""


def end_stopped(processes: Sequence[BaseProcess]) -> None:
    """Wait until processes that were told to stop have ended, and kill those that do not."""
    deadline = time.monotonic() + PATIENCE_S
    try:
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        # Code in C, as a kernel that hangs, lets no signal through; a second Ctrl-C comes here too.
        for process in processes:
            if process.is_alive():
                logging.getLogger("kvtool").warning(
                    "worker process %d: expected it to stop within %g s, found it still running; "
                    "it is killed, and its claims are free",
                    process.pid,
                    PATIENCE_S,
                )
                process.kill()
        # Only a driver that hangs outlives that signal, and nobody waits for it for ever.
        for process in processes:
            process.join(PATIENCE_S)

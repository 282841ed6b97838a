"""`--engine slurm`: a command is written as a script for sbatch, and submitted, in place of run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from kvtool.cli import console
from kvtool.cli.options import DEVICE_FLAGS
from kvtool.errors import UsageError

CALLERS = (
    *("answers", "official", "save_predictions", "pictures", "save", "out", "each_token"),
    *("plot", "fresh", "dry_run"),
)
"""Parameters that mean one process: the tasks of an array share the work, and any of them may be
the last."""

SCRIPT_FLAGS = (*DEVICE_FLAGS, "--engine", "--cpus-per-worker")
"""Flags that the script has its own of."""


def divert(command: Any) -> None:
    """Let a command with an engine, and those below it, submit itself where that is slurm."""
    for subcommand in getattr(command, "commands", {}).values():
        divert(subcommand)
    run = command.callback
    if run is None or not any(parameter.name == "engine" for parameter in command.params):
        return

    @wraps(run)
    def run_or_submit(*args: Any, **options: Any) -> Any:
        """Run the command, or submit it."""
        if options.get("engine") == "slurm":
            return _submit(command.name, options)
        return run(*args, **options)

    command.callback = run_or_submit


def _submit(name: str, options: Mapping[str, Any]) -> None:
    """Write the script of a command and submit it. Raises UsageError for what tasks cannot share,
    KvtoolError where it is refused.
    """
    from kvtool.engine.slurm import SlurmArray, submit
    from kvtool.models.device_names import worker_devices

    flags = [flag for flag in CALLERS if options.get(flag)]
    if flags or options.get("heads") == "-":
        flag = flags[0].replace("_", "-") if flags else "heads -"
        raise UsageError(
            f"--engine slurm: expected no --{flag} beside it, for its tasks share the work; give "
            "it to the same command without --engine, once they are done"
        )
    array = SlurmArray(
        words=(sys.executable, "-m", "kvtool", *_without(sys.argv[1:], SCRIPT_FLAGS)),
        name=name,
        devices=worker_devices(options.get("devices") or options["device"]),
        cpus_per_worker=options["cpus_per_worker"],
        folder=Path.cwd(),
        waits=bool(options.get("wait")),
    )
    script = array.write()
    answer = submit(script)
    console.log.info("%s: written for %d tasks", script, len(array.devices))
    if answer is None:
        console.log.info("no sbatch here: submit it where there is one, with sbatch %s", script)
    else:
        console.log.info("%s", answer)
    console.log.info("the same command without --engine gives the result once they are done")


def _without(words: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """Yield the words of a line without some flags and their values."""
    following = iter(words)
    for word in following:
        name, equals, _ = word.partition("=")
        if name not in flags:
            yield word
        elif not equals:
            next(following, None)

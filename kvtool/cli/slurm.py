"""`--engine slurm`: a command of which something lacks is written as a script for sbatch and
submitted, in place of run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.cli import console
from kvtool.cli.options import DEVICE_FLAGS
from kvtool.errors import UsageError

if TYPE_CHECKING:
    from kvtool.engine.slurm import SlurmArray

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
            return _run_or_submit(partial(run, *args), command.name, options)
        return run(*args, **options)

    command.callback = run_or_submit


def _run_or_submit(run: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    """Run a command as far as nothing lacks, on this machine's CPU; submit it where something does.

    So what is wrong with a request is said before a job waits for its turn, and what is kept is
    given at once. Raises UsageError for what tasks cannot share, KvtoolError where sbatch refuses.
    """
    from kvtool.engine.slurm import JobsCrew, WorkLacksError
    from kvtool.store.shares import within

    array = _array(name, options)
    script = array.script()
    devices = "devices" if "devices" in options else "device"
    try:
        with within(JobsCrew()):
            return run(**{**options, "engine": "local", "cpus_per_worker": 1, devices: "cpu"})
    except WorkLacksError:
        return _submit(array, script)


def _array(name: str, options: Mapping[str, Any]) -> SlurmArray:
    """Return the jobs of a command. Raises UsageError for what they cannot share."""
    from kvtool.engine.slurm import SlurmArray
    from kvtool.models.device_names import AUTO, worker_devices

    flags = [flag for flag in CALLERS if options.get(flag)]
    if flags or options.get("heads") == "-":
        flag = flags[0].replace("_", "-") if flags else "heads -"
        raise UsageError(
            f"--engine slurm: expected no --{flag} beside it, for its tasks share the work; give "
            "it to the same command without --engine, once they are done"
        )
    devices = worker_devices(options.get("devices") or options["device"])
    if devices == (AUTO,):
        raise UsageError(
            "--engine slurm: expected --devices, a task for each, found none; say what each task "
            "asks for, as --devices cuda:0,cuda:1 or --devices cpu,cpu"
        )
    return SlurmArray(
        words=(sys.executable, "-m", "kvtool", *_without(sys.argv[1:], SCRIPT_FLAGS)),
        name=name,
        devices=devices,
        cpus_per_worker=options["cpus_per_worker"],
        folder=Path.cwd(),
        waits=bool(options.get("wait")),
    )


def _submit(array: SlurmArray, script: str) -> None:
    """Write a script and submit it. Raises KvtoolError where it is refused."""
    from kvtool.engine.slurm import submit
    from kvtool.reporting.numbers import plural

    path = array.write(script)
    answer = submit(path)
    console.log.info("%s: written for %s", path, plural(len(array.devices), "task"))
    if answer is None:
        console.log.info("no sbatch here: submit it where there is one, with sbatch %s", path)
    else:
        console.log.info("%s", answer)
    console.log.info("the same command without --engine gives the result once they are done")


def _without(words: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """Yield the words of a line without some flags and their values."""
    following = iter(words)
    for word in following:
        name, equals, _ = word.partition("=")
        if word == "--":
            # Behind it there are no flags.
            yield word
            yield from following
        elif name not in flags:
            yield word
        elif not equals:
            next(following, None)

"""A command as an array of Slurm jobs: a script for sbatch, a task for each worker.

Each task is the same command on a device of its own; the tasks share the work by claims in the
store, as processes of one machine do. A task that its time limit is about to end releases its
claims and is queued again, and so is one of a lost node.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from kvtool.digests import digest_texts
from kvtool.errors import KvtoolError, UsageError
from kvtool.models.device_names import numbered
from kvtool.store.shares import Alone

WAIT_S = 900
"""How long a task waits for the others: longer than claims of a lost node last."""
BEFORE_LIMIT_S = 120
"""How long before its time limit a task is told to end."""

SCRIPT = "array.sbatch"
"""The script, as a template."""


class WorkLacksError(BaseException):
    """Something of a command's work is not there yet. Not an error of a part, which would be noted
    while the others go on.
    """


class JobsCrew(Alone):
    """The crew of a command whose work is left to jobs: it ends at the first piece that lacks."""

    def work(self) -> Sequence[str] | None:
        """Leave the work to them. Raises WorkLacksError."""
        raise WorkLacksError


@dataclass(frozen=True)
class SlurmArray:
    """A command to be run as an array of jobs.

    Attributes:
        words: The command line, from the interpreter on.
        name: The command's name.
        devices: A worker each, on equal devices.
        cpus_per_worker: The CPUs of a task.
        folder: The working directory, which all nodes see.
        waits: Whether the command line says itself how long it waits for others.
    """

    words: tuple[str, ...]
    name: str
    devices: tuple[str, ...]
    cpus_per_worker: int
    folder: Path
    waits: bool = False

    def script(self) -> str:
        """Return the script for sbatch. Raises UsageError for workers of unequal devices."""
        # A task sees its own GPUs alone, so that each gets the same device name.
        device, n_gpus = self._device()
        wait = () if self.waits else ("--wait", str(WAIT_S))
        # What follows -- is no flag: these stand before it.
        end = self.words.index("--") if "--" in self.words else len(self.words)
        flags = ("--engine", "local", "--devices", device, *wait)
        words = (*self.words[:end], *flags, *self.words[end:])
        text = (files(__package__) / SCRIPT).read_text(encoding="utf-8")
        template = Environment(undefined=StrictUndefined, trim_blocks=True).from_string(text)
        return template.render(
            name=self.name,
            last=len(self.devices) - 1,
            cpus=self.cpus_per_worker,
            n_gpus=n_gpus,
            before_limit_s=BEFORE_LIMIT_S,
            folder=shlex.quote(str(self.folder)),
            command=shlex.join(words),
        )

    def _device(self) -> tuple[str, int]:
        """Return the device as each task sees it, and its number of GPUs. Raises UsageError."""
        kinds = {numbered(device) for device in self.devices}
        if len(kinds) > 1:
            raise UsageError(
                "--engine slurm: expected workers on equal devices, for tasks of an array have "
                f"equal ones, found {', '.join(self.devices)}; submit one command for each kind"
            )
        return kinds.pop()

    def write(self, script: str) -> Path:
        """Write its script into the working directory, under a name that is the command's own.

        Raises KvtoolError where there is another one, which its user may have changed.
        """
        # A digest of the command and its tasks keeps scripts apart in one folder.
        digest = digest_texts([*self.words, *self.devices, str(self.cpus_per_worker)])[:8]
        path = self.folder / f"kvtool-{self.name}-{digest}.sbatch"
        try:
            if path.exists() and path.read_text(encoding="utf-8", errors="replace") != script:
                raise KvtoolError(
                    f"{path}: expected the script of this command, found another one, perhaps "
                    f"changed by hand; submit it with sbatch {path.name}, or remove it"
                )
            path.write_text(script, encoding="utf-8")
        except OSError as error:
            raise KvtoolError(
                f"{path}: expected a folder to write the script in, found {error.strerror}; change "
                "to another one"
            ) from None
        return path


def submit(script: Path) -> str | None:
    """Submit a script, and return what sbatch says; None where there is no sbatch. Raises
    KvtoolError where it refuses.
    """
    if shutil.which("sbatch") is None:
        return None
    done = _run(["sbatch", str(script)])
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise KvtoolError(
            f"sbatch {script}: expected it to be accepted, found: {words[-1]}; options of this "
            "cluster, as its partition, are SBATCH_ variables or lines of the script"
        )
    return done.stdout.strip()


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)

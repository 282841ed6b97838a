"""Commands in processes of their own, forked from one that has loaded the large libraries.

A fresh interpreter spends seconds on torch and transformers before a command begins. Here the
standard library's fork server loads them once for a session. It loads nothing of kvtool: what a
process does with the package, its environment, streams and signals is as in a fresh one.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

LIBRARIES = [
    "torch",
    "transformers.modeling_utils",
    "transformers.processing_utils",
    "transformers.models.llava_next.modeling_llava_next",
    "transformers.models.llava_onevision.modeling_llava_onevision",
    "scipy.stats",
    "zarr",
    "typer",
    "rich",
]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(LIBRARIES)


class Forked:
    """A function of no arguments but words, run in a process of its own.

    Attributes:
        stdin: what the process reads, to be written and closed.
        stdout: what it prints, as it comes.
    """

    def __init__(
        self,
        function: str,
        *words: object,
        folder: Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Start it.

        Args:
            function: module:name of what is called; it finds the words in sys.argv.
            words: sys.argv but for the first.
            folder: the working directory.
            environment: all of the environment's variables.
        """
        stdin, stdin_end = os.pipe()
        stdout_end, stdout = os.pipe()
        # A file takes any length while nobody reads.
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        ends = (stdin, stdout, self._stderr.fileno())
        self._process = CONTEXT.Process(
            target=_begin,
            args=(
                [_Passed(end) for end in ends],
                str(folder or Path.cwd()),
                dict(environment),
                function,
                list(map(str, words)),
            ),
        )
        self._process.start()
        os.close(stdin)
        os.close(stdout)
        self.stdin = open(stdin_end, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        self.stdout = open(stdout_end, encoding="utf-8")  # noqa: SIM115, PTH123

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, text: str = "") -> tuple[int, str, str]:
        """Give it its input and wait for its end: exit code, standard output and error."""
        try:
            self.stdin.write(text)
            self.stdin.close()
        except BrokenPipeError:
            pass  # it has ended
        out = self.stdout.read()
        self.stdout.close()
        self._process.join()
        self._stderr.seek(0)
        err = self._stderr.read()
        self._stderr.close()
        exit_code = self._process.exitcode
        assert exit_code is not None
        return exit_code, out, err


class _Passed:
    """A file descriptor on its way to a new process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _arrived, (DupFd(self.number),)


def _arrived(descriptor: Any) -> int:
    number: int = descriptor.detach()
    return number


def _begin(
    streams: list[int], folder: str, environment: dict[str, str], function: str, words: list[str]
) -> None:
    """Make this process what a shell would have started, and call the function."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["kvtool", *words]
    module, _, name = function.partition(":")
    getattr(import_module(module), name)()

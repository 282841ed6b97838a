"""Commands in processes of their own, which count what they compute and can be held at any moment
of it.

Protocol: the words WHAT STOP_AT LOG ARGUMENTS... run `kvtool ARGUMENTS...`. For each call that
computes WHAT a line of LOG says how much. At the call of number STOP_AT, from 1, the process says
so on standard output and waits for a line on its standard input.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.support.forked import Forked

ROOT = Path(__file__).parents[2]
HOLDING = "holding"
COUNTED: dict[str, tuple[str, str, str, Callable[..., int]]] = {
    "answers": (
        "kvtool.asking.answering",
        "Answerer",
        "_generate",
        lambda _, __, todo: sum(map(len, todo.values())),
    ),
    "several": (
        "kvtool.models.several",
        "SeveralImages",
        "ask_several",
        lambda _, __, texts, *___: len(texts),
    ),
    "probes": ("kvtool.tasks.scoring", "", "score_blocks", lambda *_: 1),
    "layers": ("kvtool.tasks.scoring", "", "score_blocks", lambda *_: 1),
    "looks": (
        "kvtool.asking.attending",
        "Attender",
        "_looks_at",
        lambda _, __, inquiries: len(inquiries),
    ),
    "variance": ("kvtool.features.variances", "", "measure", lambda *_: 1),
}
"""Module, class, function, and how much one call computes; "layers" also shares small ones."""


class Worker:
    """A command in a process of its own. log: where it counts, the same for several."""

    def __init__(self, log: Path, what: str, *arguments: object, stop_at: int = 0) -> None:
        self.process = Forked(
            "tests.experiments.workers:main", what, stop_at, log, *arguments, folder=ROOT
        )

    def holding(self) -> Worker:
        """Itself, once it stands where it is to stop."""
        line = self.process.stdout.readline()
        assert line.strip() == HOLDING, self.end()
        return self

    def end(self) -> tuple[int, str, str]:
        """Let it go on: exit code, standard output and error."""
        return self.process.communicate("\n")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def counts(log: Path) -> list[int]:
    """How much each call computed."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def main() -> None:
    what, stop_at, log, *arguments = sys.argv[1:]
    module, owner, name, size = COUNTED[what]
    target: Any = import_module(module)
    target = getattr(target, owner) if owner else target
    original = getattr(target, name)
    n_calls = 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{size(*args)}\n".encode())
        os.close(descriptor)
        if n_calls == int(stop_at):
            print(HOLDING, flush=True)
            sys.stdin.readline()
        return original(*args, **options)

    setattr(target, name, counted)
    from kvtool.engine import processes
    from kvtool.tasks import layer_shares

    processes.START = "fork"  # so that the workers of a crew count, too
    if what == "layers":
        layer_shares.LEAST_BYTES = 0
    from kvtool.cli import app

    sys.argv = ["kvtool", *arguments]
    app.main()

"""A process that has loaded everything and forks an extraction on each line it reads: kill -9
without the start-up.

Protocol: a line of JSON {job: ..., options: ...} in, the child's pid out. The children's results
are the store's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


class Forks:
    """Starts extractions quickly, each in a process of its own."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def start(self, job: dict[str, Any]) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print(json.dumps(job), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())

    def wait(self) -> str:
        """How the next child that ends ended: 'PID STATUS'."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print("wait", file=self.server.stdin, flush=True)
        return self.server.stdout.readline()

    def close(self) -> None:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()


def serve() -> None:
    for module in (
        "engine.local",
        "store.catalog",
        "datasets.folder",
        "models.families.llava_onevision",
    ):
        import_module(f"kvtool.{module}")
    import kvtool

    for line in sys.stdin:
        if line.strip() == "wait":
            pid, status = os.wait()
            print(pid, os.waitstatus_to_exitcode(status), flush=True)
            continue
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                kvtool.extract(**job)
            except BaseException as error:  # noqa: BLE001  the child must not go on as a server
                print(f"child: {error!r}", file=sys.stderr)
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    serve()

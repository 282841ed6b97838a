"""Records the calls of an extraction that change a disk, in order, for tests/campaign/disk.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.campaign.children import run_child
from tests.campaign.disk import Event
from tests.campaign.syscalls import Call, watched_calls

Report = Callable[[str], object]


def record(folder: Path, work: Callable[[Report], object]) -> list[Event]:
    """Run `work(report)` in a process of its own and return what it did below `folder`, its reports
    in between.
    """

    def recorded(send: Report) -> None:
        recorder = _Recorder(folder.absolute())
        with watched_calls(folder, recorder.call):
            work(lambda step: recorder.events.append(Event("report", step)))
        send(recorder.events)  # type: ignore[arg-type]

    outcome = run_child(recorded)
    if not outcome.reports:
        raise RuntimeError(f"the recorded work ended with {outcome.code}: {outcome.error}")
    events: list[Event] = outcome.reports[0]
    return events


class _Recorder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self._numbers: dict[int, int] = {}
        """Of each open descriptor, a number that is never used again."""

    def call(self, call: Call) -> Any:
        if call.name == "open":
            return self._open(call)
        result = call.run()
        path, path2, number = (
            self._relative(call.path),
            self._relative(call.path2),
            self._numbers.get(call.fd or -1, 0),
        )
        if call.name == "write":
            self.events.append(
                Event(
                    "write", number=number, data=bytes(memoryview(call.args[1]).cast("B")[:result])
                )
            )
        elif call.name in ("fsync", "fdatasync"):
            self.events.append(Event("fsync", number=number))
        elif call.name in ("rename", "replace"):
            self.events.append(Event("rename", path, path2))
        elif call.name in ("unlink", "remove", "rmdir"):
            self.events.append(Event("remove", path))
        elif call.name in ("truncate", "ftruncate"):
            self.events.append(Event("truncate", path, number=call.args[1]))
        elif call.name == "link":
            self.events.append(Event("link", path, path2))
        elif call.name == "mkdir":
            self.events.append(Event("mkdir", path))
        return result

    def _open(self, call: Call) -> Any:
        flags, is_new = call.args[1], not os.path.lexists(call.path)
        fd = call.run()
        self._numbers[fd] = len(self.events) + 1
        name = "create" if flags & os.O_CREAT and is_new else "open"
        self.events.append(Event(name, self._relative(call.path), number=self._numbers[fd]))
        if flags & os.O_TRUNC and not is_new:
            self.events.append(Event("truncate", self._relative(call.path), number=0))
        return fd

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.root) if path else ""

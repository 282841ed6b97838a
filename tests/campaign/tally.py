"""What a part of the campaign counts."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from kvtool.errors import KvtoolError
from tests.support.patience import hang_s


class HangError(BaseException):
    """Something took longer than hang_s; no Exception, so that no net in between catches it."""


@dataclass
class Tally:
    """How many states, faults or kills were tried, and what was wrong after them; notes say what, a
    line each.
    """

    name: str
    tried: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    tracebacks: int = 0
    hangs: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, kind: str, note: str) -> None:
        """One more `kind` ("lost", "doubled", "wrong", "tracebacks", "hangs"), and what it was."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.notes.append(f"{kind}: {note}")

    @property
    def clean(self) -> bool:
        return not self.notes

    def to_json(self) -> dict[str, Any]:
        return {
            item.name: getattr(self, item.name) for item in fields(self) if item.name != "notes"
        }

    @contextmanager
    def watched(self, what: str) -> Iterator[None]:
        """Count an exception as a traceback, a refusal (KvtoolError) as lost, and more than hang_s
        as a hang.
        """
        before = signal.signal(signal.SIGALRM, _hang)
        signal.setitimer(signal.ITIMER_REAL, hang_s())
        try:
            yield
        except HangError:
            self.count("hangs", what)
        except KvtoolError as error:
            self.count("lost", f"{what}: refused: {error}")
        except Exception:  # noqa: BLE001  whatever it is, it is counted
            self.count("tracebacks", f"{what}: {traceback.format_exc()}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _hang(*_: Any) -> None:
    raise HangError

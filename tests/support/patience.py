"""How long nothing may come of something before it counts as a hang."""

from __future__ import annotations

from pathlib import Path

HANG_S = 20.0


def hang_s(pid: int | str = "self") -> float:
    """Return HANG_S, longer by as much as a process gets less than a core of a busy machine.

    pid: the process whose share of a core is looked at. Where the system does not tell the time
    that it stood in line, HANG_S.
    """
    try:
        ran, queued, _ = map(int, Path(f"/proc/{pid}/schedstat").read_text().split())
    except (OSError, ValueError):
        return HANG_S
    return HANG_S * (1 + queued / max(ran, 1))

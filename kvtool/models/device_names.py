"""Names of devices, checked without torch."""

from __future__ import annotations

import re

from kvtool.errors import UsageError


def check_device(name: str) -> str:
    """Return a device's name as it is written: cpu, cuda or cuda:N.

    Raises UsageError; whether it exists is seen later.
    """
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name):
        raise UsageError(
            f"device: expected cpu, cuda or cuda:N, found {name!r}; choose one of these"
        )
    return name

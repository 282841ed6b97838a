"""The wall clock that a store sees, under a test's hand."""

from __future__ import annotations

import sys
import time
from types import ModuleType, SimpleNamespace


class Clock:
    """The wall clock of kvtool.store, which jumps; everything else in `time` stays as it is."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        shim = SimpleNamespace(**{**vars(time), "time": lambda: time.time() + self.offset_s})
        self._modules = [
            module for module in _store_modules() if getattr(module, "time", None) is time
        ]
        for module in self._modules:
            module.time = shim  # type: ignore[attr-defined]

    def stop(self) -> None:
        for module in self._modules:
            module.time = time  # type: ignore[attr-defined]


def _store_modules() -> list[ModuleType]:
    return [
        module for name, module in list(sys.modules.items()) if name.startswith("kvtool.store.")
    ]

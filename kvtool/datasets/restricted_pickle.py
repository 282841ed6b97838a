"""Reading pickles of foreign origin: plain values only, no class and no function is ever looked up."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from kvtool.errors import DatasetError


class _PlainUnpickler(pickle.Unpickler):
    """Builds dict, list, tuple, str, bytes, int, float, bool and None; these need no lookup by name."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_plain(path: Path) -> Any:
    """The value in a pickle, Python 2 strings read as latin-1. Raises DatasetError, also for anything not plain."""
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise DatasetError(f"{path}: expected a readable file, found: {error.strerror}") from None
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
        MemoryError,
    ) as error:  # fmt: skip
        said = " ".join(str(error).split())[:200]
        raise DatasetError(
            f"{path}: expected a pickle of plain lists and dicts, found something else: {said}; download it again"
        ) from None

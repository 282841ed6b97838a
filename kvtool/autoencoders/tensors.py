"""Reading the files of SAEs: JSON, safetensors, NumPy archives, and pickles without their code."""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from kvtool.digests import open_regular, read_stamped
from kvtool.errors import ModelError, UsageError

SMALL_FILE_BYTES = 1 << 26
_MESSAGE_LENGTH = 160


@dataclass(frozen=True)
class Tensors:
    """The tensors of one file by name.

    Attributes:
        path: The file, for messages.
        by_name: Float32 tensors, and numbers as they are.
        transpose: What a user says of square matrices: True where the encoder is stored as (m, d)
            and the decoder as (d, m), False for the reverse, None for nothing.
    """

    path: Path
    by_name: Mapping[str, Any]
    transpose: bool | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def vector(self, *names: str) -> torch.Tensor:
        """Return the first of some tensors that there is, as it is.

        Raises ModelError where there is none, or a value is not finite.
        """
        for name in names:
            if name in self.by_name:
                return _finite(self.path, name, self.by_name[name])
        raise ModelError(
            f"{self.path}: expected the tensor {' or '.join(names)}, found "
            f"{', '.join(sorted(self.by_name)[:8]) or 'none'}; take the whole file of an SAE"
        )

    def optional(self, *names: str) -> torch.Tensor | None:
        """Return the first of some tensors that there is; None where there is none."""
        return self.vector(*names) if any(name in self.by_name for name in names) else None

    def matrix(self, rows: int, columns: int, *names: str) -> torch.Tensor:
        """Return a matrix as (rows, columns), whichever way it is stored; its shape tells.

        Raises ModelError for another shape, and UsageError for a square one, which may be either.
        """
        stored = self.vector(*names)
        shape = tuple(stored.shape)
        # A square matrix looks the same both ways: only the user can say.
        if rows == columns and shape == (rows, columns):
            if self.transpose is None:
                raise UsageError(
                    f"{self.path}: {names[0]} is square ({rows} x {columns}), so that its shape "
                    "does not tell rows from columns; say so by transpose=True or False"
                )
            return stored.T.contiguous() if self.transpose else stored
        # Else the shape tells which way it is stored.
        if shape == (rows, columns):
            return stored
        if shape == (columns, rows):
            return stored.T.contiguous()
        raise ModelError(
            f"{self.path}: expected {names[0]} of {rows} x {columns} as the biases are, found "
            f"{' x '.join(map(str, shape)) or 'a number'}"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises ModelError."""
    try:
        data, _ = read_stamped(path, SMALL_FILE_BYTES)
        record = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected JSON, found: {_brief(error)}") from None
    if not isinstance(record, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(record).__name__}")
    return record


def read_safetensors(path: Path, transpose: bool | None) -> Tensors:
    """Return the tensors of a safetensors file. Raises ModelError."""
    try:
        with open_regular(path), safe_open(path, "pt") as file:
            tensors = {name: _float32(file.get_tensor(name)) for name in list(file.keys())}
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: expected safetensors, found: {_brief(error)}") from None
    return Tensors(path, tensors, transpose)


def read_npz(path: Path, transpose: bool | None) -> Tensors:
    """Return the arrays of a NumPy archive; arrays of objects are refused. Raises ModelError."""
    try:
        with open_regular(path), np.load(path, allow_pickle=False) as archive:
            tensors = {
                name: _float32(torch.from_numpy(np.asarray(archive[name]))) for name in archive
            }
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: expected a NumPy archive, found: {_brief(error)}") from None
    return Tensors(path, tensors, transpose)


def read_pickle(path: Path, skip_bytes: int = 0) -> Any:
    """Return what torch.save wrote, tensors and plain values alone: no code of the file is run.

    Raises ModelError.
    """
    try:
        with open_regular(path) as fd, open(fd, "rb", closefd=False) as file:
            file.seek(skip_bytes)
            # What follows a header becomes a file of its own, as its offsets count from its start.
            source = file if skip_bytes == 0 else io.BytesIO(file.read())
            with warnings.catch_warnings():
                # Of another protocol torch warns; what it cannot read it refuses all the same.
                warnings.simplefilter("ignore")
                return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path}: expected tensors alone, found a pickle with other objects, which could run "
            "code; nothing was loaded: save its state dict, or convert it to safetensors"
        ) from None
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: expected a file of torch.save, found: {_brief(error)}") from None


def pickled_tensors(path: Path, state: Any, transpose: bool | None) -> Tensors:
    """Return a pickled state dict as tensors; what is no tensor or number is left out."""
    if not isinstance(state, Mapping):
        raise ModelError(f"{path}: expected a state dict, found {type(state).__name__}")
    numbers = {
        str(name): _float32(torch.as_tensor(value))
        for name, value in state.items()
        if isinstance(value, torch.Tensor | int | float)
    }
    return Tensors(path, numbers, transpose)


def number_in(pattern: str, text: str, kind: Callable[[str], Any] = int) -> Any:
    """Return the last number that a pattern finds in a text; None where it finds none."""
    matches = re.findall(pattern, text)
    return kind(matches[-1]) if matches else None


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to(torch.float32)


def _finite(path: Path, name: str, tensor: torch.Tensor) -> torch.Tensor:
    if not bool(torch.isfinite(tensor).all()):
        count = int((~torch.isfinite(tensor)).sum())
        raise ModelError(
            f"{path}: expected finite weights, found {count} of {tensor.numel()} of {name} NaN or "
            "infinite; fetch the file again"
        )
    return tensor


def _brief(error: BaseException) -> str:
    """Return the first line of a foreign message, not too long."""
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:_MESSAGE_LENGTH]

"""What other packages raise over a checkpoint, a forward pass or an image, in one line of ours."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import torch

from kvtool.errors import ImageError, KvtoolError
from kvtool.models.files import one_line


@contextmanager
def preparing(id: str) -> Iterator[None]:
    """Turn what an image processor raises over one image into an ImageError: the others are
    prepared all the same.
    """
    try:
        yield
    except (KvtoolError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(
            f"image {id}: expected one that the model's image processor takes, found: "
            f"{described(error)}; leave it out"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is that of an allocation: of Python's, the device's, or PyTorch's on
    the CPU.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # PyTorch's allocator on the CPU raises a RuntimeError, known by its words alone.
    return isinstance(error, RuntimeError) and bool(
        re.search("(can't|not enough) (allocate )?memory", str(error))
    )


def described(error: BaseException) -> str:
    """Return what a foreign error says, in one sentence; a pickle's in ours, for PyTorch's offers
    ways to run its code.
    """
    if isinstance(error, UnpicklingError):
        return (
            "pickled objects beside tensors, which could run code; convert the weights to "
            "safetensors"
        )
    return f"{type(error).__name__}: {one_line(error)}"


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, log lines or warnings of transformers and accelerate: what matters of a
    load is checked here.
    """
    from transformers.utils import logging as transformers_logging

    # Both libraries' loggers are process-wide: what they were is put back at the end.
    transformers: Any = transformers_logging
    accelerate = logging.getLogger("accelerate")

    verbosity = transformers.get_verbosity()
    level = accelerate.level
    bars = transformers.is_progress_bar_enabled()
    transformers.set_verbosity_error()
    transformers.disable_progress_bar()
    accelerate.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.set_verbosity(verbosity)
        accelerate.setLevel(level)
        if bars:
            transformers.enable_progress_bar()

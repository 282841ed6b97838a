"""The precision that training computes in: bfloat16, or single precision on a processor that would
multiply bfloat16 value by value.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from kvtool.models.linear_layers import is_slow

DTYPE = torch.float32 if is_slow(torch.bfloat16) else torch.bfloat16


def autocast() -> AbstractContextManager[None]:
    """Let torch compute in bfloat16 what may be, where that is the precision of training."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.bfloat16 == DTYPE)

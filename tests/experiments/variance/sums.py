"""Variances in the words of their definition, and columns of a result."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtool.result import Result
from tests.support.keys import Array


def by_numpy(values: Array) -> Array:
    """(head,) variance of values (head, image, token, dim), in the words of the definition."""
    variances: Array = values.astype(np.float64).var(axis=1).sum(axis=-1).mean(axis=-1)
    return variances


def column(result: Result, name: str = "variance") -> list[Any]:
    return [row[name] for row in result.rows]

"""Figures are made under the plots' own settings."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import pytest

from kvtool.reporting.plots.style import parameters


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with matplotlib.rc_context(parameters()):
        yield

"""One small world on disk for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.demo.layouts import LAYOUTS
from tests.support.scenes import World


@pytest.fixture(scope="session")
def world(embedded_world: World) -> Path:
    return embedded_world(*LAYOUTS.names())

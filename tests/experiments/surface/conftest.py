"""The embedded scenes to ask about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scenes import World


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("blink", "spair71k")

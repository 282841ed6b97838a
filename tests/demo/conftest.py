"""A demo model that was trained for a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.demo.training.__main__ import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a few steps through all stages, exported and evaluated by the script
    itself.
    """
    out = tmp_path_factory.mktemp("trained")
    assert main([str(out), "--tiny", "--questions", "6"]) == 0
    return out

from __future__ import annotations

import pytest

from tests.contracts.families.linear_adapter import Adapter


@pytest.mark.slow
class TestTrainedAdapter(Adapter):
    """The contract of decoders, by an adapter that was trained."""

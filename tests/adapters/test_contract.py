from __future__ import annotations

from tests.contracts.families.linear_adapter import Adapter


class TestTrainedAdapter(Adapter):
    """The contract of decoders, by an adapter that was trained."""

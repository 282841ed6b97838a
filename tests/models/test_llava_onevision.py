from __future__ import annotations

from tests.contracts.families.llava_onevision import LlavaOnevision


class TestLlavaOnevision(LlavaOnevision):
    """The contract of decoders."""

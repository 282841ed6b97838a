"""The contract of every model family, run on tiny random weights of the real transformers classes.

The other side is always transformers itself: its own processor lays out the prompt, its own forward
runs it. A family's test names a builder of its checkpoint and its transformers classes, and
inherits every test here.
"""

from __future__ import annotations

from tests.contracts.attention_contract import AttentionContract
from tests.contracts.continuation_contract import ContinuationContract
from tests.contracts.encoder_contract import EncoderContract
from tests.contracts.stored_contract import StoredContract
from tests.contracts.stream_contract import StreamContract
from tests.contracts.text_contract import TextContract

__all__ = ["DecoderContract", "EncoderContract"]


class DecoderContract(
    StreamContract, ContinuationContract, AttentionContract, StoredContract, TextContract
):
    """What holds for every multimodal family besides."""

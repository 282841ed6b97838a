"""Every head alone in one pass, against one knockout a head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kvtool.models import load_model, single_heads
from kvtool.models.base import LanguageModel
from kvtool.models.knockout import knocked_out
from kvtool.models.single_heads import single_head_logits
from tests.contracts.families import gemma3, gemma4, llava_next, qwen3_5, qwen_vl
from tests.contracts.model_contract import DecoderContract
from tests.support import tiny

CONTRACTS: list[type[DecoderContract]] = [
    llava_next.LlavaNextLlama,
    qwen_vl.Qwen25VL,
    gemma3.Gemma3,
    gemma4.Gemma4,
    qwen3_5.Qwen35,
]
QUESTION = "what is there"


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.build)
def test_logits_equal_one_knockout_a_head(
    contract: type[DecoderContract], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows together, and some at a time."""
    family = contract()
    model = load_model(str(getattr(family.builders, family.build)(tmp_path)), dtype="float32")
    assert isinstance(model, LanguageModel)
    sample, captured = family.capture(model, tiny.noise(70, 45), family.views[0])
    cache = model.restore([sample], [family.stored(captured)])
    n_tokens = cache.get_seq_length()
    text = model.question(QUESTION)
    heads = list(model.info.geometry.heads)
    expected = [model.logits(cache, [sample], text, last=True)[0]]
    for head in heads:
        with knocked_out(model, [sample], [head]):
            expected.append(model.logits(cache, [sample], text, last=True)[0])
    # Each head says something else, or the comparison proves nothing.
    assert (torch.stack(expected[1:]) - expected[0]).abs().amax(dim=1).min() > 1e-5
    for n_rows in (len(heads), 2):
        monkeypatch.setattr(single_heads, "rows_at_once", lambda *_, n=n_rows: n)
        logits = single_head_logits(model, cache, sample, text, heads)
        torch.testing.assert_close(logits, torch.stack(expected), rtol=0, atol=1e-5)
        # The cache is as it was.
        assert cache.get_seq_length() == n_tokens
        assert all(len(layer.keys) == 1 for layer in cache.layers if hasattr(layer, "keys"))

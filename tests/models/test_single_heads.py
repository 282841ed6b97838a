"""Every head alone in one pass, against one knockout a head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kvtool.models import load_model, single_heads
from kvtool.models.knockout import knocked_out
from kvtool.models.single_heads import single_head_logits
from kvtool.models.text_tree import TreeModel
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
QUESTIONS = ("what is there", "what is", "is it a cat or a dog", "what colour is the cat")
"""Two begin alike, one is the beginning of another, and all have other numbers of tokens."""


@pytest.mark.slow
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.build)
def test_logits_equal_one_knockout_a_head(
    contract: type[DecoderContract], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows together, and some at a time."""
    family = contract()
    model = load_model(str(getattr(family.builders, family.build)(tmp_path)), dtype="float32")
    assert isinstance(model, TreeModel)
    sample, captured = family.capture(model, tiny.noise(70, 45), family.views[0])
    cache = model.restore([sample], [family.stored(captured)])
    n_tokens = cache.get_seq_length()
    texts = [*map(model.question, QUESTIONS), "what is"]
    heads = list(model.info.geometry.heads)
    expected = [[model.logits(cache, [sample], text, last=True)[0] for text in texts]]
    for head in heads:
        with knocked_out(model, [sample], [head]):
            expected.append([model.logits(cache, [sample], text, last=True)[0] for text in texts])
    table = torch.stack([torch.stack(row) for row in expected])
    # Each head says something else, or the comparison proves nothing.
    assert (table[1:] - table[0]).abs().amax(dim=(1, 2)).min() > 1e-5
    tokens = [range(table.shape[-1])] * (len(texts) - 1) + [range(5, 2, -1)]
    for n_rows, n_texts in ((len(heads), 16), (2, 3)):
        # Layers that read the keys of others run all rows at once.
        n_part = n_rows + 1 if single_heads.shares_keys(model) else 3
        monkeypatch.setattr(single_heads, "rows_at_once", lambda *_, n=(n_rows, n_part): n)
        monkeypatch.setattr(single_heads, "TEXTS", n_texts)
        logits = single_head_logits(model, cache, sample, texts, heads, tokens)
        for text, (text_logits, ids) in enumerate(zip(logits, tokens, strict=True)):
            expected_logits = table[:, text, list(ids)]
            torch.testing.assert_close(text_logits, expected_logits, rtol=0, atol=1e-5)
        # The cache is as it was, and so is the model.
        assert cache.get_seq_length() == n_tokens
        assert all(len(layer.keys) == 1 for layer in cache.layers if hasattr(layer, "keys"))
        again = model.logits(cache, [sample], texts[0], last=True)[0]
        assert torch.equal(again, table[0, 0])

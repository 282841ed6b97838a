"""The words on which SAEs are checked."""

from __future__ import annotations

import torch

from kvtool.autoencoders.text_check import drawn_captions, word_streams
from kvtool.models.language import load_language


def test_all_layers_have_the_same_words() -> None:
    """A word that is far off in some layer is left out of all."""
    language = load_language("demo", device="cpu", dtype="bfloat16")
    # So small a multiple of the median that layers would leave out different words.
    all_words, usual_words = (
        word_streams(language, drawn_captions(), 512, 128, outlier) for outlier in (1e9, 1.05)
    )
    lengths = torch.stack([states.float().norm(dim=1) for states in all_words.values()])
    is_usual = lengths <= 1.05 * lengths.median(dim=1, keepdim=True).values
    assert len({*is_usual.sum(dim=1).tolist()}) > 1
    for layer, states in usual_words.items():
        assert torch.equal(states, all_words[layer][is_usual.all(dim=0)])

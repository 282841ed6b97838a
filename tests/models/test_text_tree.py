"""Texts as a tree of tokens: what each token sees, against each text by itself."""

from __future__ import annotations

import torch

from kvtool.models.text_tree import TextTree

TEXTS = ([5, 6, 7], [5, 6], [5, 8, 7, 7], [9], [5, 6, 7])
N_CACHED, N_BETWEEN, WINDOW = 4, 1, 3


def test_common_beginnings_stand_once() -> None:
    tree = TextTree.of(TEXTS)
    assert tree.ids.tolist() == [5, 6, 7, 8, 7, 7, 9]
    assert tree.depths.tolist() == [0, 1, 2, 1, 2, 3, 0]
    assert tree.ends.tolist() == [2, 1, 5, 6, 2]


def test_each_token_sees_what_it_sees_in_its_text_alone() -> None:
    """Also through a sliding window, which counts the tokens of its own text."""
    tree = TextTree.of(TEXTS, N_BETWEEN)
    n = len(tree.depths)
    positions = torch.arange(N_CACHED + n)
    behind = positions[N_CACHED:, None] - positions
    for mask in (behind >= 0, (behind >= 0) & (behind < WINDOW)):
        visible = tree.visible(mask)
        assert visible.shape == (n, N_CACHED + n)
        for text, end in zip(TEXTS, tree.ends, strict=True):
            # The nodes on the way to the text's end, in their order.
            nodes = tree.ancestors[end].nonzero()[:, 0]
            length = N_BETWEEN + len(text)
            assert tree.ids[nodes[N_BETWEEN:] - N_BETWEEN].tolist() == list(text)
            columns = torch.cat([torch.arange(N_CACHED), N_CACHED + nodes])
            assert torch.equal(visible[nodes][:, columns], mask[:length, : N_CACHED + length])
            # Nothing of other texts.
            strangers = torch.ones(N_CACHED + n, dtype=torch.bool)
            strangers[columns] = False
            assert not visible[nodes][:, strangers].any()

"""Which SAEs a study reads, and what tells them apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kvtool.autoencoders.activations import JumpReLU
from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.hooks import stream_layer
from kvtool.errors import UsageError
from kvtool.experiments.sae.autoencoders import LayerSae, Shelf, layer_saes
from tests.support.sae.tiny_study import WIDTH, random_sae, write_saes


def moved(autoencoder: SparseAutoencoder, **changes: Any) -> SparseAutoencoder:
    return replace(autoencoder, origin=replace(autoencoder.origin, **changes))


def test_several_of_a_layer_have_names_and_digests_of_their_own(tmp_path: Path) -> None:
    first = write_saes(tmp_path / "first", (1,))
    second = write_saes(tmp_path / "second", (1,))
    entries, outside, unreadable = layer_saes([first, second, random_sae(1, seed=5)], WIDTH, [1])
    assert [entry.name for entry in entries] == ["first/layer_1", "second/layer_1", "layer_1"]
    assert (outside, unreadable) == ([], [])
    # Files of the same bytes and settings are the same SAE but for their path.
    assert len({entry.digest for entry in entries}) == 3
    again, _, _ = layer_saes([first], WIDTH, [1])
    assert again[0].digest == entries[0].digest


def test_saes_in_memory_differ_where_any_number_does() -> None:
    """Thresholds of many features are not told by their text, which leaves the middle out."""
    first = random_sae(1)
    bias = first.decoder_bias.clone()
    bias[0] += 1
    threshold = torch.zeros(4000)
    raised = threshold.clone()
    raised[2000] = 1
    saes = [
        first,
        replace(first, decoder_bias=bias),
        replace(first, skip=torch.eye(WIDTH)),
        replace(first, activation=JumpReLU(threshold)),
        replace(first, activation=JumpReLU(raised)),
    ]
    entries, _, _ = layer_saes([*saes, random_sae(1)], WIDTH, [1])
    assert len({entry.digest for entry in entries}) == len(saes)


def test_what_goes_into_a_layer_comes_out_of_the_one_before() -> None:
    before = moved(random_sae(2), hook="resid_pre")
    elsewhere = moved(random_sae(2), hook="mlp_out")
    entries, outside, _ = layer_saes([before, elsewhere], WIDTH, [0, 1, 2])
    assert [entry.layer for entry in entries] == [stream_layer(2, "resid_pre")] == [1]
    assert outside == ["random: mlp_out of layer 2, not scored"]
    with pytest.raises(UsageError, match="mlp_out of layer 2"):
        layer_saes([elsewhere], WIDTH, [0, 1, 2])


def test_a_training_under_way_is_passed_over(tmp_path: Path) -> None:
    folder = write_saes(tmp_path / "saes", (0,))
    (folder / ".training").mkdir()
    torch.save({"step": 3}, folder / ".training/layer_1.pt")
    entries, _, unreadable = layer_saes([folder], WIDTH, [0, 1])
    assert len(entries) == 1
    assert unreadable == []


def test_a_shelf_holds_as_many_as_fit(tmp_path: Path) -> None:
    entries, _, _ = layer_saes([write_saes(tmp_path, (0, 1, 2))], WIDTH, [0, 1, 2])
    shelf = Shelf(torch.device("cpu"), most_bytes=2 * entries[0].nbytes)
    assert not shelf.holds(entries)
    assert shelf.holds(entries[:2])
    assert layers_after(shelf, entries) == [1, 2]
    assert layers_after(shelf, [entries[1], entries[0]]) == [1, 0]
    x = torch.randn(3, WIDTH)
    assert torch.equal(shelf.get(entries[2]).encode(x), random_sae(2).encode(x))


def layers_after(shelf: Shelf, entries: list[LayerSae]) -> list[int | None]:
    """The layers of what a shelf holds after it gave these."""
    for entry in entries:
        shelf.get(entry)
    return [autoencoder.layer for autoencoder, _ in shelf.weights.values()]

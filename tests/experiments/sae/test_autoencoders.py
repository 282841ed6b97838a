"""Which SAEs a study reads, and what tells them apart."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kvtool.autoencoders import formats
from kvtool.autoencoders.activations import JumpReLU
from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.files import SETTINGS_FILES, WeightFile
from kvtool.autoencoders.hooks import stream_layer
from kvtool.autoencoders.loading import load_sae
from kvtool.autoencoders.saving import save_sae
from kvtool.errors import UsageError
from kvtool.experiments.sae.article import sae_paths
from kvtool.experiments.sae.autoencoders import LayerSae, Shelf, layer_saes
from kvtool.experiments.sae.sources import find_sources
from tests.support.sae.tiny_study import WIDTH, random_sae, write_saes


def moved(autoencoder: SparseAutoencoder, **changes: Any) -> SparseAutoencoder:
    return replace(autoencoder, origin=replace(autoencoder.origin, **changes))


def read(
    sources: Sequence[Any], layers: Sequence[int]
) -> tuple[list[LayerSae], list[str], list[str]]:
    return layer_saes(find_sources(sources, layers), WIDTH, layers)


def digests(*sources: Any) -> list[str]:
    return [source.digest for source in find_sources(sources, [1])]


def test_several_of_a_layer_have_names_and_digests_of_their_own(tmp_path: Path) -> None:
    first = write_saes(tmp_path / "first", (1,))
    second = save_sae(random_sae(1, seed=3), tmp_path / "second/layer_1").parent
    entries, outside, unreadable = read([first, second, random_sae(1, seed=5)], [1])
    assert [entry.name for entry in entries] == ["first/layer_1", "second/layer_1", "layer_1"]
    assert [entry.facts["path"] for entry in entries] == [
        "first/layer_1/sae_weights.safetensors",
        "second/layer_1/sae_weights.safetensors",
        "random",
    ]
    assert (outside, unreadable) == ([], [])
    assert len({entry.digest for entry in entries}) == 3


def test_an_sae_is_known_by_its_bytes_and_settings_wherever_it_lies(tmp_path: Path) -> None:
    first = write_saes(tmp_path / "first", (1,))
    copy = shutil.copytree(first, tmp_path / "deeper/copy")
    assert digests(first) == digests(copy)
    entries, outside, _ = read([first, copy], [1])
    assert len(entries) == 1
    assert outside == [
        "first/layer_1/sae_weights.safetensors: the SAE of "
        "copy/layer_1/sae_weights.safetensors, scored once"
    ]
    settings = copy / "layer_1/cfg.json"
    settings.write_text(settings.read_text() + " ")
    assert digests(first) != digests(copy)
    scaler = shutil.copytree(first, tmp_path / "scaled") / "layer_1/activation_scaler.json"
    scaler.write_text('{"scaling_factor": 2.0}')
    assert digests(first) != digests(tmp_path / "scaled")
    # In memory neither.
    loaded = load_sae(first / "layer_1")
    assert digests(loaded) == digests(moved(loaded, path="elsewhere"))
    assert digests(loaded) != digests(moved(loaded, layer=2))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("SAE-L0_50/layer1.sae.pt", "SAE-L0_100/layer1.sae.pt"),
        ("scope/layer1.sae.pt", "scope/layer2.sae.pt"),
        ("layer_1/average_l0_9/params.npz", "layer_1/average_l0_10/params.npz"),
        ("layer_1/params.npz", "embedding/layer_1/params.npz"),
        ("resid_post_layer_1/trainer_0/ae.pt", "resid_pre_layer_1/trainer_0/ae.pt"),
    ],
)
def test_what_only_the_path_says_tells_saes_apart(tmp_path: Path, first: str, second: str) -> None:
    paths = [tmp_path / "a" / first, tmp_path / "a" / second, tmp_path / "b" / first]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    plain, changed, copied = (digests(path)[0] for path in paths)
    assert plain == copied
    assert plain != changed


def test_all_settings_that_formats_read_are_digested() -> None:
    folder = Path(formats.__file__).parent
    names = {
        name
        for file in folder.glob("*.py")
        for name in re.findall(r'"(\w+\.json)"', file.read_text())
    }
    assert len(names) > 3
    assert names == {name.rpartition("/")[2] for name in SETTINGS_FILES}


def test_one_of_another_width_is_left_out(tmp_path: Path) -> None:
    sound = write_saes(tmp_path / "sound", (0,))
    broad = write_saes(tmp_path / "wide", (1,), 40)
    entries, _, left_out = read([sound, broad, random_sae(1, width=24)], [0, 1])
    assert [entry.layer for entry in entries] == [0]
    assert [line.partition(":")[0] for line in left_out] == [
        "wide/layer_1/sae_weights.safetensors",
        "random",
    ]
    assert "width 32, found one of width 40" in left_out[0]
    with pytest.raises(UsageError, match="width 32, found one of width 40"):
        read([broad], [0, 1])


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
    entries, _, _ = read([*saes, random_sae(1)], [1])
    assert len({entry.digest for entry in entries}) == len(saes)


def test_what_goes_into_a_layer_comes_out_of_the_one_before() -> None:
    before = moved(random_sae(2), hook="resid_pre")
    elsewhere = moved(random_sae(2), hook="mlp_out")
    entries, outside, _ = read([before, elsewhere], [0, 1, 2])
    assert [entry.layer for entry in entries] == [stream_layer(2, "resid_pre")] == [1]
    assert outside == ["random: mlp_out of layer 2, not scored"]
    with pytest.raises(UsageError, match="mlp_out of layer 2"):
        read([elsewhere], [0, 1, 2])


def test_a_training_under_way_is_passed_over(tmp_path: Path) -> None:
    folder = write_saes(tmp_path / "saes", (0,))
    (folder / ".training").mkdir()
    torch.save({"step": 3}, folder / ".training/layer_1.pt")
    entries, _, unreadable = read([folder], [0, 1])
    assert len(entries) == 1
    assert unreadable == []


def test_a_shelf_holds_as_many_as_fit(tmp_path: Path) -> None:
    entries, _, _ = read([write_saes(tmp_path, (0, 1, 2))], [0, 1, 2])
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


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/home/her/saes/layer_3/ae.pt", "saes/layer_3/ae.pt"),
        ("/x/res/layer_3/width_16k/l0_9/params.npz", "layer_3/width_16k/l0_9/params.npz"),
        ("ae.pt", "ae.pt"),
    ],
)
def test_a_label_is_the_last_parts_of_a_path(path: str, label: str) -> None:
    file = WeightFile(Path(path), 3)
    assert file.label == label
    assert file.labeled(f"{path}: expected a, found b") == f"{label}: expected a, found b"


def test_the_shipped_saes_are_called_as_the_page_expects() -> None:
    labels = {source.label for source in find_sources(["demo"], range(4))}
    assert sae_paths([{"path": label, "layer": 0} for label in labels]) == ["demo"]

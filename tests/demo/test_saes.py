"""The shipped SAEs of the demo decoder: what they do on captions that training has not seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvtool.autoencoders.check import measure_fit
from kvtool.autoencoders.descriptions import read_descriptions
from kvtool.autoencoders.loading import find_saes
from kvtool.demo.captions import scene_captions
from kvtool.demo.training import saes
from kvtool.demo.training.saes import UnseenStates, unseen_captions, unseen_words
from kvtool.demo.weights import DEMO, demo_saes_path
from kvtool.demo.world import COLORS, categories
from kvtool.models.language import load_language

LAYERS = range(8)
MOST_BYTES = 2_600_000
N_UNSEEN = 250


@pytest.fixture(scope="module")
def words() -> UnseenStates:
    return unseen_words(load_language(DEMO), N_UNSEEN)


@pytest.mark.slow
def test_they_give_unseen_words_back(words: UnseenStates) -> None:
    """In every layer, at 12 features a word."""
    files = find_saes([DEMO])
    assert [file.layer for file in files] == list(LAYERS)
    for layer, file in zip(LAYERS, files, strict=True):
        fit = measure_fit(file.load(), words.states[layer])
        assert fit.fvu <= 0.10
        assert fit.l0 == pytest.approx(12, abs=1)


@pytest.mark.slow
def test_the_words_are_unseen(words: UnseenStates) -> None:
    texts = unseen_captions(N_UNSEEN)
    assert not {*texts} & {*scene_captions(saes.TRAINING_CAPTIONS, saes.TRAINING_SEED)}
    assert 0.8 * N_UNSEEN < len(texts) == len({*words.starts}) < N_UNSEEN


@pytest.mark.slow
def test_the_card_says_what_they_do(words: UnseenStates) -> None:
    card = (demo_saes_path() / "README.md").read_text()
    rows = re.findall(r"^\| (\d) \| ([\d.]+) \| ([\d.]+) \|", card, re.MULTILINE)
    assert [int(layer) for layer, *_ in rows] == list(LAYERS)
    for layer, fvu, l0 in rows:
        (file,) = find_saes([demo_saes_path() / f"layer_{layer}"])
        fit = measure_fit(file.load(), words.states[int(layer)])
        assert float(fvu) == pytest.approx(fit.fvu, rel=0.15, abs=0.002)
        assert float(l0) == pytest.approx(fit.l0, abs=0.3)


def test_descriptions_name_what_is_in_scenes() -> None:
    """All 34 categories and colors but four at most in a layer (when this was written)."""
    descriptions = read_descriptions(demo_saes_path() / "descriptions.json")
    assert sorted(descriptions) == list(LAYERS)
    names = {*categories(), *COLORS}
    described = [
        {word for text in features.values() for word in text.split(", ")}
        for features in descriptions.values()
    ]
    assert max(len(names - words) for words in described) <= 4
    assert names <= set().union(*described)


def test_they_are_small() -> None:
    files = [path for path in demo_saes_path().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


@pytest.mark.slow
def test_the_script_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saes, "UNSEEN_CAPTIONS", 40)
    assert saes.main([str(tmp_path), "--steps", "3", "--captions", "120"]) == 0
    names = {path.relative_to(tmp_path / "saes") for path in (tmp_path / "saes").rglob("*.*")}
    shipped = {path.relative_to(demo_saes_path()) for path in demo_saes_path().rglob("*.*")}
    assert names == shipped
    first = (tmp_path / "saes/layer_7/sae_weights.safetensors").read_bytes()
    # A second call has nothing left to train.
    assert saes.main([str(tmp_path), "--steps", "3", "--captions", "120"]) == 0
    assert (tmp_path / "saes/layer_7/sae_weights.safetensors").read_bytes() == first

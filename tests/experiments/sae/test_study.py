"""The study on a tiny real model: all beside a slow pass over the whole prompt; what is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.saving import save_sae
from kvtool.engine.run_model import load_run_model
from kvtool.experiments.sae import study
from kvtool.experiments.sae.conditions import CONDITIONS
from kvtool.experiments.sae.run import sae
from kvtool.experiments.sae.settings import DescribedBy
from kvtool.models.cache import watched
from kvtool.models.language import language_of
from kvtool.models.splice import SplicedImage
from kvtool.result import Result, Row
from kvtool.store import Run
from tests.support.sae.tiny_study import CAPTIONS, WIDTH, random_sae, tiny_run, write_saes

LAYER = 2
WORDS = {word for captions in CAPTIONS.values() for text in captions for word in text.split()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    return tiny_run(tmp_path_factory.mktemp("sae"), tiny_model)


@pytest.fixture(scope="module")
def saes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_saes(tmp_path_factory.mktemp("saes"))


@pytest.fixture(scope="module")
def result(run: Run, saes: Path) -> Result:
    return sae(run, [saes], tokens="all", device="cpu")


def row(result: Result, condition: str, layer: int = LAYER) -> Row:
    (match,) = [
        item for item in result.rows if (item["layer"], item["condition"]) == (layer, condition)
    ]
    return match


def whole_streams(run: Run, layer: int) -> list[torch.Tensor]:
    """The stream of each image's patches after a layer, by hooks on a pass over the prompt."""
    model: Any = load_run_model(run, device="cpu")
    streams = []
    for sample in run.samples:
        stored = run.read_image(sample.id, ["projected"], raw=True)
        outputs: list[torch.Tensor] = []
        with watched({model.language_model.layers[layer]: outputs.append}):
            model.prefill([model.prepare_stored(sample, stored)])
        patches = sample.image_start + np.array(sample.base().token_indices())
        streams.append(outputs[0][0, torch.from_numpy(patches)].float())
    return streams


def slow_scores(streams: list[torch.Tensor], autoencoder: SparseAutoencoder) -> dict[str, float]:
    """The scores by their definitions."""
    x = torch.cat(streams).double()
    features = autoencoder.encode(x.float())
    errors = (x - autoencoder.decode(features).double()).square().sum(dim=1)
    per_image = [rows.mean() for rows in torch.split(errors, [len(item) for item in streams])]
    return {
        "mse": float(torch.stack(per_image).mean()) / x.shape[1],
        "fvu": float(errors.sum() / (x - x.mean(dim=0)).square().sum()),
        "l0": float((features != 0).sum(dim=1).double().mean()),
        "norm": float(np.median(x.norm(dim=1).numpy())),
    }


@pytest.mark.slow
def test_the_image_is_what_a_whole_pass_gives(run: Run, result: Result) -> None:
    expected = slow_scores(whole_streams(run, LAYER), random_sae(LAYER))
    image = row(result, "image")
    assert {name: image[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert image["n_tokens"] == sum(np.prod(sample.base().grid) for sample in run.samples)


@pytest.mark.slow
def test_the_text_is_the_captions_by_words(run: Run, result: Result) -> None:
    language = language_of(load_run_model(run, device="cpu"))
    captions = study.dataset_of(run).captions()  # type: ignore[attr-defined]
    before = list(language.opening_ids)
    streams = []
    for sample in run.samples:
        states = []
        for caption in captions[sample.id]:
            ids = torch.tensor([before + language.token_ids(caption)])
            states.append(language.states(ids, [LAYER])[0, 0, len(before) :].float())
        streams.append(torch.cat(states))
    expected = slow_scores(streams, random_sae(LAYER))
    text = row(result, "text")
    assert {name: text[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_all_conditions_of_the_layers_that_have_an_sae(result: Result) -> None:
    assert {item["layer"] for item in result.rows} == {0, 2}
    for layer in (0, 2):
        conditions = [item["condition"] for item in result.rows if item["layer"] == layer]
        assert conditions == list(CONDITIONS)
    assert result.config["layers_without_sae"] == [1]
    assert any("no evidence" in note for note in result.config["notes"])
    assert result.best is not None
    assert result.best["condition"] == "image"
    assert result.n == 8


def test_controls_have_what_they_keep_of_the_image(result: Result) -> None:
    for layer in (0, 2):
        image = row(result, "image", layer)
        assert row(result, "other-image", layer)["fvu"] == image["fvu"]
        assert row(result, "noise-residual", layer)["norm"] == pytest.approx(image["norm"], rel=0.3)
        assert row(result, "shuffled", layer)["norm"] == pytest.approx(image["norm"], rel=0.3)
        for condition in ("pca", "random-sae"):
            assert row(result, condition, layer)["norm"] == pytest.approx(image["norm"])
        assert row(result, "random", layer)["fvu"] != image["fvu"]
        assert row(result, "pca", layer)["l0"] <= 32
        for field in ("l0_fraction", "above", "alive", "density_50", "density_90", "density_99"):
            assert row(result, "pca", layer)[field] is None
            assert image[field] is not None


def test_few_tokens_of_each_image(run: Run, saes: Path) -> None:
    few = sae(run, [saes], tokens=3, layers=[0], conditions=["random"], device="cpu")
    assert {item["n_tokens"] for item in few.rows if item["condition"] != "text"} == {24}
    assert {item["condition"] for item in few.rows} == {"text", "image", "random"}


@pytest.mark.slow
def test_what_the_model_loses_of_captions(run: Run, saes: Path) -> None:
    """Before the last layer text reads what is replaced; after it nothing can change."""
    few: dict[str, Any] = {"conditions": ["pca"], "device": "cpu", "limit": 2}
    spliced = sae(run, [saes], splice=True, tokens="all", **few)
    first, last = row(spliced, "image", 0), row(spliced, "image", 2)
    model: Any = load_run_model(run, device="cpu")
    losses = []
    for sample, states in zip(run.samples[:2], whole_streams(run, 0), strict=False):
        arrays: Any = run.read_image(sample.id, ["key", "value", "projected"], raw=True)
        tokens = np.array(sample.base().token_indices())
        caption = CAPTIONS["dog" if sample.index % 2 else "cat"][0]
        image = SplicedImage(model, sample, arrays, tokens, caption, keys="post-rope")
        losses.append(image.spliced_loss(0, random_sae(0).reconstruct(states)) - image.loss())
    assert first["delta_loss"] == pytest.approx(np.mean(losses), rel=1e-3)
    assert first["delta_loss_low"] <= first["delta_loss"] <= first["delta_loss_high"]
    assert last["delta_loss"] == pytest.approx(0, abs=1e-5)
    assert row(spliced, "pca", 0)["delta_loss"] != first["delta_loss"]
    assert row(sae(run, [saes], tokens=3, **few), "image", 0)["delta_loss"] is None


def test_directions_need_no_sae(run: Run, result: Result) -> None:
    by_words = sae(run, "none", tokens="all", device="cpu")
    assert by_words.metric == "directions"
    assert by_words.higher_is_better
    assert {item["sae"] for item in by_words.rows} == {"none"}
    assert {item["layer"] for item in by_words.rows} == {0, 1, 2}
    for item in by_words.rows:
        if item["layer"] == LAYER:
            beside = row(result, item["condition"])
            assert item["directions"] == pytest.approx(beside["directions"])
    assert by_words.items == []


@pytest.mark.slow
def test_a_result_is_kept_for_what_it_was_made_of(
    run: Run, saes: Path, result: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []
    measured = study.SaeStudy.result

    def counted(*arguments: Any) -> Result:
        calls.append(arguments)
        return measured(*arguments)

    monkeypatch.setattr(study.SaeStudy, "result", counted)
    again = sae(run.store, str(saes), tokens="all")
    assert again.to_json() == Result.from_json(result.to_json()).to_json()
    assert not calls
    few: dict[str, Any] = {"tokens": 2, "layers": [0], "conditions": ["text"]}
    sae(run, [saes], **few)
    sae(run, [saes], **few)
    assert len(calls) == 1
    # A copy is the same SAE; other weights, or other settings beside the same ones, are not.
    moved = shutil.copytree(saes, tmp_path / "moved")
    sae(run, [moved], **few)
    assert len(calls) == 1
    for layer in (0, 2):
        save_sae(random_sae(layer, seed=7), moved / f"layer_{layer}")
    sae(run, [moved], **few)
    assert len(calls) == 2
    settings = moved / "layer_0/cfg.json"
    off, on = ('"apply_b_dec_to_input": false', '"apply_b_dec_to_input": true')
    settings.write_text(settings.read_text().replace(off, on))
    centered = sae(run, [moved], **few)
    assert len(calls) == 3
    assert centered.config["sae"][0]["centered"] is True
    sae(run, [random_sae(0)], **few)
    assert len(calls) == 4


@pytest.mark.slow
def test_a_result_keeps_what_was_left_out_of_it(run: Run, saes: Path, tmp_path: Path) -> None:
    """Those that cannot be read or are of another width are named again without being read."""
    few: dict[str, Any] = {"tokens": 2, "conditions": ["text"], "layers": [0]}
    folder = write_saes(tmp_path / "cut", (1,)) / "layer_1"
    (folder / "sae_weights.safetensors").write_bytes(b"cut short")
    broad = write_saes(tmp_path / "wide", (0,), 40)
    expected = sae(run, [saes], **few)
    partly = sae(run, [saes, folder, broad], **few)
    assert partly.rows == expected.rows
    assert (expected.n_skipped, partly.n_skipped) == (0, 2)
    assert [line.partition(": ")[0] for line in partly.skipped] == [
        "wide/layer_0/sae_weights.safetensors",
        "cut/layer_1/sae_weights.safetensors",
    ]
    assert f"width {WIDTH}, found one of width 40" in partly.skipped[0]
    assert sae(run, [saes, folder, broad], **few).skipped == partly.skipped
    assert sae(run, [saes], **few).n_skipped == 0
    # SAEs of layers that are not asked for are named.
    assert any("layer 2, not scored" in note for note in expected.config["notes"])
    first = sae(run, [saes / "layer_0"], **few)
    assert not any("not scored" in note for note in first.config["notes"])
    assert str(tmp_path.parent) not in json.dumps(partly.config["sae"] + partly.config["notes"])


@pytest.mark.slow
def test_a_kept_result_is_given_without_torch(run: Run, saes: Path, tmp_path: Path) -> None:
    """Also of SAEs that moved, and with one among them that cannot be read."""
    broken = tmp_path / "layer_1/sae_weights.safetensors"
    broken.parent.mkdir()
    broken.write_bytes(b"cut short")
    options: dict[str, Any] = {"tokens": 2, "conditions": ["text"]}
    descriptions = tmp_path / "words.json"
    descriptions.write_text(json.dumps({"layer": 0, "features": {"1": "a cat"}}))
    options["descriptions"] = str(descriptions)
    expected = sae(run, [saes, broken], **options)
    assert expected.config["descriptions"] == "words.json"
    moved = shutil.move(shutil.copytree(saes, tmp_path / "copy"), tmp_path / "moved")
    code = (
        "import sys, kvtool\n"
        f"result = kvtool.sae({str(run.store)!r}, [{str(moved)!r}, {str(broken)!r}], **{options})\n"
        "print(result.n_skipped, result.rows[0]['fvu'], *sorted({'torch', 'transformers', "
        "'sklearn', 'matplotlib'} & sys.modules.keys()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert told.split() == ["1", repr(expected.rows[0]["fvu"])]


def test_models_that_compare_descriptions_are_known_by_their_weights(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A copy under another name is the same, other weights in the same folder are not."""
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"layer": 0, "features": {"1": "a cat"}}))

    def settings(model: Path, match_by: Any, role: str) -> dict[str, Any]:
        by = DescribedBy(words, match_by, **{role: str(model)})
        assert by.names()[role] == model.name
        return by.settings(by.read())

    for match_by, role in (("embedding", "embedder"), ("judge", "judge")):
        before = settings(copy, match_by, role)
        assert before == settings(tiny_model, match_by, role)
        assert before[f"{role}_revision"]
        assert str(tmp_path) not in json.dumps(before)
    weights = load_file(path := copy / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    save_file(weights, path, metadata={"format": "pt"})
    assert settings(copy, "judge", "judge") != settings(tiny_model, "judge", "judge")


def test_cards_show_where_a_feature_fires(run: Run, result: Result) -> None:
    assert result.items
    autoencoder = random_sae(LAYER)
    streams = dict(zip(run.ids, whole_streams(run, LAYER), strict=True))
    for item in result.items:
        if item["layer"] == LAYER:
            features = autoencoder.encode(streams[item["image"]])[:, item["feature"]]
            assert item["cells"] == list(range(len(features)))
            assert item["activations"] == pytest.approx(features.tolist(), abs=2e-3)
            assert item["activation"] == pytest.approx(float(features.max()), abs=2e-3)
            assert np.prod(item["grid"]) == len(features)
            assert set(item["words"]) <= WORDS

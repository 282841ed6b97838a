"""`kvtool sae check` on the shipped SAEs and on planted wrong ones: each is found, and what fits is
named.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import kvtool
from kvtool.autoencoders import text_check
from kvtool.autoencoders.documents import open_documents
from kvtool.autoencoders.text_check import CheckedSae
from kvtool.demo.weights import DEMO, demo_saes_path
from kvtool.errors import ModelError, UsageError
from kvtool.models.language import Language, load_language
from tests.support.shell import Shell

LAYER = 3
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def one_run_of_the_text() -> Any:
    """The demo model is loaded, and the text run, once for all tests."""
    streams: dict[int, Mapping[int, torch.Tensor]] = {}
    languages: dict[str, Language] = {}
    run = text_check.word_streams

    def load(name: str, **options: Any) -> Language:
        if name not in languages:
            languages[name] = load_language(name, **options)
        return languages[name]

    def words(language: Language, *options: Any) -> Mapping[int, torch.Tensor]:
        if id(language) not in streams:
            streams[id(language)] = run(language, *options)
        return streams[id(language)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_check, "load_language", load)
        patch.setattr(text_check, "word_streams", words)
        yield


def planted(
    folder: Path,
    change: Callable[[Tensors], Tensors] = dict,
    *,
    metadata: Mapping[str, Any] = {},
    **settings: Any,
) -> Path:
    """A copy of the shipped SAE of a layer, with other weights and settings."""
    target = folder / "wrong"
    shutil.copytree(demo_saes_path() / f"layer_{LAYER}", target)
    weights = load_file(target / "sae_weights.safetensors")
    changed = change({name: weight.float() for name, weight in weights.items()})
    save_file(
        {name: weight.contiguous() for name, weight in changed.items()},
        target / "sae_weights.safetensors",
    )
    record = json.loads((target / "cfg.json").read_text())
    record |= settings
    record["metadata"] |= metadata
    (target / "cfg.json").write_text(json.dumps(record))
    return target


def check(path: Path) -> CheckedSae:
    (row,) = kvtool.sae_check([path], model=DEMO, device="cpu")
    return row


def scaled(weights: Tensors) -> Tensors:
    """As trained on vectors of a mean length of sqrt(d), which no file says."""
    streams = text_check.word_streams(
        load_language(DEMO, device="cpu", dtype="bfloat16"),
        text_check.drawn_captions(),
        4096,
        128,
        10.0,
    )
    factor = 128**0.5 / float(streams[LAYER].float().norm(dim=1).mean())
    units = ("b_enc", "b_dec", "threshold")
    return {name: weight * factor if name in units else weight for name, weight in weights.items()}


def turned(weights: Tensors) -> Tensors:
    """Of a model whose stream has other axes."""
    d = len(weights["b_dec"])
    square = torch.randn(d, d, generator=torch.Generator().manual_seed(0))
    axes = torch.linalg.qr(square).Q
    return {
        **weights,
        "W_enc": axes @ weights["W_enc"],
        "W_dec": weights["W_dec"] @ axes.T,
        "b_dec": axes @ weights["b_dec"],
    }


def square(weights: Tensors) -> Tensors:
    """As many features as dimensions, those that fire most; both matrices the other way round."""
    d = len(weights["b_dec"])
    sparsity = load_file(demo_saes_path() / f"layer_{LAYER}/sparsity.safetensors")["sparsity"]
    top = sparsity.topk(d).indices
    return {
        "W_enc": weights["W_enc"][:, top].T,
        "W_dec": weights["W_dec"][top].T,
        "b_enc": weights["b_enc"][top],
        "b_dec": weights["b_dec"],
        "threshold": weights["threshold"][top],
    }


@pytest.mark.slow
def test_the_shipped_ones_fit() -> None:
    rows = kvtool.sae_check([DEMO], model=DEMO, device="cpu")
    assert [row.layer for row in rows] == list(range(8))
    for row in rows:
        assert (row.format, row.hook, row.d, row.m) == ("saelens", "resid_post", 128, 512)
        assert (row.fits, row.verdict) == (True, "fits")
        assert row.published_l0 == pytest.approx(row.l0, rel=0.2)


@pytest.mark.parametrize(
    "hook", ["blocks.4.hook_resid_post", "blocks.2.hook_resid_post", "blocks.3.hook_resid_pre"]
)
@pytest.mark.slow
def test_a_wrong_place(tmp_path: Path, hook: str) -> None:
    row = check(planted(tmp_path, metadata={"hook_name": hook}))
    assert not row.fits
    assert f"on layer {LAYER}" in row.verdict


@pytest.mark.slow
def test_a_place_that_is_not_told(tmp_path: Path) -> None:
    row = check(planted(tmp_path, metadata={"hook_name": "mlp_out"}))
    assert (row.layer, row.fits, row.fvu) == (None, False, None)
    assert row.verdict == f"does not fit as published; fits on layer {LAYER}"


@pytest.mark.slow
def test_a_wrong_scale(tmp_path: Path) -> None:
    row = check(planted(tmp_path, scaled))
    assert not row.fits
    assert "fits with a scale of 0.0" in row.verdict


@pytest.mark.slow
def test_a_bias_that_is_not_subtracted(tmp_path: Path) -> None:
    row = check(planted(tmp_path, apply_b_dec_to_input=False))
    assert row.verdict == "does not fit as published; fits with the decoder's bias subtracted"


@pytest.mark.slow
def test_swapped_axes(tmp_path: Path) -> None:
    row = check(planted(tmp_path, square, d_sae=128, metadata={"l0": 8.0}))
    assert row.verdict == "does not fit as published; fits with rows and columns swapped"


@pytest.mark.slow
def test_another_model(tmp_path: Path) -> None:
    row = check(planted(tmp_path, turned))
    assert not row.fits
    assert row.verdict == "does not fit, in no reading: is it of another model?"


@pytest.mark.slow
def test_another_number_of_features(tmp_path: Path) -> None:
    """Four times as many were published as fire."""
    row = check(planted(tmp_path, metadata={"l0": 50.0}))
    assert not row.fits
    assert row.published_l0 == 50
    assert row.l0 == pytest.approx(12, abs=1.5)


@pytest.mark.slow
def test_another_width(language_folder: Path) -> None:
    (row,) = kvtool.sae_check(
        [demo_saes_path() / "layer_0"], model=str(language_folder), dtype="float32", device="cpu"
    )
    assert not row.fits
    assert "reads vectors of width 128, and those of" in row.verdict
    assert row.verdict.endswith("have 32")


@pytest.mark.slow
def test_one_that_cannot_be_read_does_not_end_the_whole(tmp_path: Path, shell: Shell) -> None:
    def broken(weights: Tensors) -> Tensors:
        weights["W_enc"][0, 0] = float("nan")
        return weights

    wrong = planted(tmp_path, broken)
    (tmp_path / "stranger.bin").write_bytes(b"no SAE")
    line = ("sae", "check", "--model", DEMO, "--sae", wrong, "--sae", tmp_path / "stranger.bin")
    code, out, notes = shell(
        *line, "--sae", demo_saes_path() / "layer_1", "--device", "cpu", "--format", "json"
    )
    rows = json.loads(out)
    assert code == 1
    assert [row["fits"] for row in rows] == [False, False, True]
    assert "expected finite weights, found 1 of" in rows[0]["verdict"]
    assert "expected an SAE of gemma-scope" in rows[1]["verdict"]
    assert "expected 3 SAEs that fit, found 2 that do not" in notes[-1]


@pytest.mark.slow
def test_the_command_says_that_all_fit(shell: Shell) -> None:
    code, out, _ = shell(
        "sae", "check", "--model", DEMO, "--sae", "demo", "--device", "cpu", "--format", "csv"
    )
    assert code == 0
    assert len(out.splitlines()) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sae": []}, "sae check: expected --sae PATH, found none"),
        ({"sae": ["nowhere"]}, "nowhere: expected SAE weights"),
        ({"text": ["nowhere.txt"]}, "expected a file with one document a line"),
        ({"device": "tpu"}, "expected cpu, cuda or cuda:N, found 'tpu'"),
        ({"max_tokens": 0}, "max_tokens: expected a whole number from 1"),
    ],
)
def test_what_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kvtool.sae_check(**{"sae": ["demo"], "model": DEMO, "device": "cpu", **options})


@pytest.mark.slow
def test_a_model_that_gives_nan(tmp_path: Path, language_folder: Path) -> None:
    shutil.copytree(language_folder, tmp_path / "broken")
    weights = load_file(tmp_path / "broken/model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][:] = float("nan")
    save_file(weights, tmp_path / "broken/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="expected finite vectors after layer 1, found NaN"):
        kvtool.sae_check(["demo"], model=str(tmp_path / "broken"), dtype="float32", device="cpu")


@pytest.mark.slow
def test_the_streams_are_those_of_every_layer(language_folder: Path, text: Path) -> None:
    """Against transformers' hidden states of one document at a time."""
    language = load_language(str(language_folder), dtype="float32")
    documents = open_documents([text], what="test")
    streams = text_check.word_streams(language, documents, 10**6, 10**6, 1e9)
    expected: dict[int, list[torch.Tensor]] = {layer: [] for layer in (-1, 0, 1, 2)}
    for line in sorted(documents, key=lambda line: len(line.split())):
        ids = torch.tensor([[*language.opening_ids, *language.token_ids(line)]])
        skipped = len(language.opening_ids)
        expected[-1].append(language.embed(ids)[0, skipped:])
        for layer in range(3):
            expected[layer].append(language.states(ids, [layer])[0, 0, skipped:])
    for layer, vectors in expected.items():
        # The order of the documents does not matter.
        ours = streams[layer].double().sum(dim=0)
        torch.testing.assert_close(ours, torch.cat(vectors).double().sum(dim=0), rtol=0, atol=1e-3)
        assert len(streams[layer]) == len(torch.cat(vectors))

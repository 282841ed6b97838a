"""Files that are no SAE, or a harmful one: a line says what is wrong, and no code is run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import kvtool
from kvtool.autoencoders.files import weight_files
from kvtool.autoencoders.loading import find_saes
from kvtool.errors import KvtoolError, ModelError, UsageError
from tests.support.sae import saelens, scopes
from tests.support.sae.weights import D, M, Weights, write_json, write_pickle, write_tensors


class Harm:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (_touch, (str(self.path),))


def _touch(path: str) -> object:
    return Path(path).write_text("run")


def harmful(root: Path) -> Path:
    path = root / "trainer_0/ae.pt"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps({"bias": Harm(root / "harm")}))
    return path


def harmful_archive(root: Path) -> Path:
    path = root / "layer3.sae.pt"
    torch.save({"W_enc": Harm(root / "harm")}, path)
    return path


@pytest.mark.parametrize("write", [harmful, harmful_archive])
def test_code_in_a_pickle_is_refused_and_not_run(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path)
    with pytest.raises(ModelError, match="could run code; nothing was loaded") as refusal:
        kvtool.load_sae(path)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "harm").exists()


def objects_archive(root: Path) -> Path:
    path = root / "params.npz"
    np.savez(path, W_enc=np.array([{"a": 1}], dtype=object))
    return path


def other_shape(root: Path) -> Path:
    stored = saelens.saelens_standard(root)
    w = Weights(4)
    tensors = {"W_enc": w.draw(D, M + 1), "b_enc": w.encoder_bias, "W_dec": w.decoder}
    return write_tensors(stored.path, **tensors, b_dec=w.decoder_bias)


def not_finite(root: Path) -> Path:
    stored = saelens.saelens_standard(root)
    w = Weights(4)
    w.decoder[2, 3] = np.nan
    tensors = {"W_enc": w.encoder, "b_enc": w.encoder_bias, "W_dec": w.decoder}
    return write_tensors(stored.path, **tensors, b_dec=w.decoder_bias)


def without_decoder(root: Path) -> Path:
    stored = saelens.saelens_standard(root)
    w = Weights(4)
    tensors = {"W_enc": w.encoder, "b_enc": w.encoder_bias}
    return write_tensors(stored.path, **tensors, b_dec=w.decoder_bias)


def torn(root: Path) -> Path:
    stored = saelens.saelens_standard(root)
    stored.path.write_bytes(stored.path.read_bytes()[:100])
    return stored.path


def unknown_architecture(root: Path) -> Path:
    stored = saelens.saelens_standard(root)
    write_json(stored.path.with_name("cfg.json"), {"architecture": "stacked"})
    return stored.path


def list_settings(root: Path) -> Path:
    stored = saelens.saelens_standard(root)
    write_json(stored.path.with_name("cfg.json"), [1])
    return stored.path


def transcoder(root: Path) -> Path:
    stored = scopes.llama_scope_later(root)
    settings = {"hook_point_in": "blocks.8.hook_resid_mid", "hook_point_out": "blocks.8.mlp_out"}
    write_json(stored.path.with_name("config.json"), settings)
    return stored.path


def nameless_topk(root: Path) -> Path:
    """Qwen-Scope's number of features stands in the folder's name alone."""
    stored = scopes.qwen_scope(root)
    moved = root / "layer6.sae.pt"
    stored.path.rename(moved)
    return moved


def list_of_tensors(root: Path) -> Path:
    path = root / "ae.pt"
    torch.save([torch.zeros(3)], path)
    return path


def lone_weights(root: Path) -> Path:
    return write_tensors(root / "sae_weights.safetensors", W_enc=np.zeros((D, M), np.float32))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (objects_archive, "expected a NumPy archive, found"),
        (other_shape, f"expected W_enc of {D} x {M} as the biases are, found {D} x {M + 1}"),
        (not_finite, "expected finite weights, found 1 of"),
        (without_decoder, "expected the tensor W_dec, found W_enc, b_dec, b_enc"),
        (torn, "expected safetensors, found"),
        (unknown_architecture, "expected an architecture that kvtool knows .* found 'stacked'"),
        (list_settings, "expected a JSON object, found list"),
        (transcoder, "expected an SAE, found a transcoder from blocks.8.hook_resid_mid"),
        (nameless_topk, "expected the number of active features in the folder's name"),
        (list_of_tensors, "expected a state dict, found list"),
        (lone_weights, "with the settings that came with it beside it"),
    ],
)
def test_one_line_says_what_is_wrong(
    tmp_path: Path, write: Callable[[Path], Path], message: str
) -> None:
    path = write(tmp_path)
    with pytest.raises(ModelError, match=message) as refusal:
        kvtool.load_sae(path)
    assert "\n" not in str(refusal.value)


def test_nothing_at_a_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected SAE weights .* found none; give a file"):
        kvtool.load_sae(tmp_path / "no")


def test_another_width_names_both(tmp_path: Path) -> None:
    sae = kvtool.load_sae(scopes.gemma_scope(tmp_path).path)
    with pytest.raises(UsageError, match=f"width {D} cannot read vectors of width {D + 1}"):
        sae.encode(np.zeros((2, D + 1), np.float32))
    with pytest.raises(UsageError, match=f"expected features of {M}, found {M - 1}"):
        sae.decode(np.zeros((2, M - 1), np.float32))


def test_decoding_that_needs_the_vectors_says_so(tmp_path: Path) -> None:
    sae = kvtool.load_sae(saelens.saelens_layer_norm(tmp_path).path)
    with pytest.raises(UsageError, match=r"use decode\(f, x\) or reconstruct\(x\)"):
        sae.decode(np.zeros((2, M), np.float32))


def square(root: Path) -> Path:
    w = Weights(3, m=D)
    tensors = {"encoder.weight": w.encoder.T, "encoder.bias": w.encoder_bias}
    tensors |= {"decoder.weight": w.decoder.T, "bias": w.decoder_bias}
    return write_pickle(root / "ae.pt", tensors)


def test_square_matrices_need_a_word_of_the_user(tmp_path: Path) -> None:
    path = square(tmp_path)
    with pytest.raises(UsageError, match="say so by transpose=True or False"):
        kvtool.load_sae(path)
    w = Weights(3, m=D)
    x = w.draw(4, D)
    expected = np.maximum((x - w.decoder_bias) @ w.encoder + w.encoder_bias, 0)
    np.testing.assert_allclose(kvtool.load_sae(path, transpose=True).encode(x), expected, atol=1e-5)
    reverse = kvtool.load_sae(path, transpose=False).encode(x)
    assert not np.allclose(reverse, expected, atol=1e-2)


@pytest.mark.parametrize(
    "template",
    [
        "./saes/layer_{layer}/ae.pt",
        "saes//layer_{layer}",
        "saes/layer_{layer}/",
        "saes/layer_{layer}/a?.pt",
        "saes/layer_{layer}/[a-c]e.pt",
        "saes/layer_{layer}/[!b]e.pt",
        "**/layer_{layer}/ae.pt",
        "~/saes/layer_{layer}",
        "../{layer}/saes/layer_{layer}",
    ],
)
def test_a_template_may_be_spelled_in_any_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    """As a shell takes it; a number that stands twice is the same one."""
    home = tmp_path / "3"
    for layer in (3, 5):
        (home / f"saes/layer_{layer}").mkdir(parents=True)
        (home / f"saes/layer_{layer}/ae.pt").write_bytes(b"")
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    n_twice = template.count("{layer}") - 1
    assert [file.layer for file in weight_files([template])] == [3, 5][: 2 - n_twice]
    assert [file.layer for file in weight_files([template], [3])] == [3]


def unclear_batches(root: Path) -> Path:
    stored = scopes.llama_scope_topk(root)
    settings = json.loads(stored.path.with_name("config.json").read_text())
    write_json(stored.path.with_name("config.json"), {**settings, "norm_activation": "batch-wise"})
    return stored.path


def no_threshold(root: Path) -> Path:
    return scopes.saev(root, {"cls": "BatchTopK", "threshold": None}, lambda pre: pre).path


def no_k(root: Path) -> Path:
    return scopes.saev(root, {"cls": "TopK", "params": {}}, lambda pre: pre).path


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (unclear_batches, "expected norm_activation dataset-wise, token-wise or inference, found"),
        (no_threshold, r"expected settings of saev, found some .* \(TypeError"),
        (no_k, r"expected settings of saev, found some .* \(KeyError"),
    ],
)
def test_settings_that_make_no_sense_are_told(
    tmp_path: Path, write: Callable[[Path], Path], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        kvtool.load_sae(write(tmp_path))


def test_a_template_finds_an_sae_a_layer(tmp_path: Path) -> None:
    stored = scopes.gemma_scope(tmp_path)
    scope = stored.path.parents[3]
    for layer in (0, 11):
        folder = scope / f"layer_{layer}/width_16k/average_l0_7"
        folder.mkdir(parents=True)
        (folder / "params.npz").write_bytes(stored.path.read_bytes())
    template = f"{scope}/layer_{{layer}}/width_16k/*"
    assert [file.layer for file in find_saes([template])] == [0, 3, 11]
    assert [file.layer for file in find_saes([template], [3, 5])] == [3]
    assert [file.load().layer for file in find_saes([scope])] == [0, 3, 11]
    with pytest.raises(KvtoolError, match=r"expected one SAE, found 3"):
        kvtool.load_sae(scope)

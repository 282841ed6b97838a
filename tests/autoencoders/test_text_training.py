"""`kvtool sae train` on a tiny model: what it gives, and what a kill costs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import kvtool
from kvtool.autoencoders import streams, training
from kvtool.autoencoders.documents import is_held_out
from kvtool.errors import BusyError, DatasetError, UsageError
from kvtool.models.language import load_language
from kvtool.store.locks import claim
from tests.support.sae.text import QUICK, train
from tests.support.shell import Shell

SAVE_OFTEN = {**(training.train_sae.__kwdefaults__ or {}), "save_steps": 7}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_TOKENS", 100)
    monkeypatch.setattr(streams, "NOTE_BLOCKS", 1)
    monkeypatch.setattr(training.train_sae, "__kwdefaults__", SAVE_OFTEN)


def states_by_part(model: Path, text: Path, layer: int) -> dict[bool, torch.Tensor]:
    """The stream of every context, run alone: whether it is held out -> (token, d)."""
    language = load_language(str(model), dtype="float32")
    parts: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    for line in text.read_text().splitlines():
        ids = language.token_ids(line.strip())
        for start in range(0, len(ids), QUICK["context"]):
            piece = ids[start : start + QUICK["context"]]
            prompt = torch.tensor([[*language.opening_ids, *piece]])
            parts[is_held_out(piece)].append(language.states(prompt, [layer])[0, 0, -len(piece) :])
    return {is_out: torch.cat(pieces) for is_out, pieces in parts.items()}


@pytest.mark.slow
def test_what_it_gives(tmp_path: Path, language_folder: Path, text: Path) -> None:
    rows = train(tmp_path / "saes", language_folder, text)
    assert [row.layer for row in rows] == [0, 2]
    for row in rows:
        sae = kvtool.load_sae(row.path)
        assert (sae.format, sae.layer, sae.hook, sae.d, sae.m) == (
            "saelens", row.layer, "resid_post", 32, 24,
        )  # fmt: skip
        assert sae.origin.model == str(language_folder)
        assert sae.origin.published_l0 == pytest.approx(row.l0)
        # The figures are those of the contexts that were held out, each run alone.
        parts = states_by_part(language_folder, text, row.layer)
        assert (row.n_tokens, row.n_held_out) == (len(parts[False]), len(parts[True]))
        x = parts[True]
        error = (x - sae.reconstruct(x)).square().sum()
        fvu = float(error / (x - x.mean(dim=0)).square().sum())
        fires = sae.encode(x) != 0
        assert row.fvu == pytest.approx(fvu, rel=1e-4)
        assert row.l0 == pytest.approx(float(fires.sum(dim=1).float().mean()), rel=1e-4)
        assert row.alive == pytest.approx(float(fires.any(dim=0).float().mean()))
        sparsity = load_file(Path(row.path) / "sparsity.safetensors")["sparsity"]
        torch.testing.assert_close(10**sparsity, fires.float().mean(dim=0) + 1e-10)
    # Nothing is left but the SAEs.
    assert sorted(path.name for path in (tmp_path / "saes").iterdir()) == ["layer_0", "layer_2"]


@pytest.mark.parametrize("n_calls", [2, 4, 20, 38, 60])
@pytest.mark.slow
def test_a_kill_costs_nothing(
    tmp_path: Path, language_folder: Path, text: Path, n_calls: int
) -> None:
    """In the text, in the first layer, between the layers, and in the second."""
    expected = train(tmp_path / "whole", language_folder, text)
    calls = 0

    def interrupt(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == n_calls:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "saes", language_folder, text, progress=interrupt)
    rows = train(tmp_path / "saes", language_folder, text)
    for row, uninterrupted in zip(rows, expected, strict=True):
        assert (row.fvu, row.l0, row.n_tokens) == (
            uninterrupted.fvu,
            uninterrupted.l0,
            uninterrupted.n_tokens,
        )
        name = f"layer_{row.layer}/sae_weights.safetensors"
        assert (tmp_path / "saes" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_states_are_collected_once(
    tmp_path: Path, language_folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill between two layers neither the text is run nor the first layer trained."""
    out = tmp_path / "saes"

    def interrupt(_n: int, note: str, _total: int | None = None) -> None:
        if note.startswith("layer 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(out, language_folder, text, progress=interrupt)
    stamp = (out / "layer_0/cfg.json").stat().st_mtime_ns

    def run(*_: Any) -> None:
        raise AssertionError("the text was run again")

    monkeypatch.setattr(kvtool.models.language.Language, "states", run)
    rows = train(out, language_folder, text)
    assert (out / "layer_0/cfg.json").stat().st_mtime_ns == stamp
    assert [row.layer for row in rows] == [0, 2]
    # With nothing left to do nothing is done.
    assert train(out, language_folder, text) == rows


@pytest.mark.slow
def test_other_settings_after_a_kill(tmp_path: Path, language_folder: Path, text: Path) -> None:
    """What the interrupted training left is of no use to another one, and in nobody's way."""
    expected = train(tmp_path / "whole", language_folder, text, k=4)

    def interrupt(_n: int, note: str, _total: int | None = None) -> None:
        if note.startswith("layer 2, step 20"):
            raise KeyboardInterrupt

    out = tmp_path / "saes"
    with pytest.raises(KeyboardInterrupt):
        train(out, language_folder, text, progress=interrupt)
    assert list((out / ".training").glob("layer_2.*.pt"))
    shutil.rmtree(out / "layer_0")
    rows = train(out, language_folder, text, k=4)
    assert [row.fvu for row in rows] == [row.fvu for row in expected]


@pytest.mark.slow
def test_more_layers_later(tmp_path: Path, language_folder: Path, text: Path) -> None:
    (first,) = train(tmp_path / "saes", language_folder, text, layers=[1])
    rows = train(tmp_path / "saes", language_folder, text, layers=None)
    assert [row.layer for row in rows] == [0, 1, 2]
    assert rows[1] == first


@pytest.mark.slow
def test_a_folder_of_another_training_is_refused(
    tmp_path: Path, language_folder: Path, text: Path
) -> None:
    train(tmp_path / "saes", language_folder, text, layers=[0])
    with pytest.raises(UsageError, match=r"layer_0 holds an SAE of another model, text or sett"):
        train(tmp_path / "saes", language_folder, text, layers=[0], seed=1)
    (tmp_path / "saes/layer_0/cfg.json").write_text('{"metadata": []}')
    with pytest.raises(UsageError, match="holds an SAE of another"):
        train(tmp_path / "saes", language_folder, text, layers=[0])


def test_two_at_once(tmp_path: Path, language_folder: Path, text: Path) -> None:
    work = tmp_path / "saes/.training"
    work.mkdir(parents=True)
    with claim(work, work / "training.claim", "x"), pytest.raises(BusyError, match="is held by"):
        train(tmp_path / "saes", language_folder, text)


class Sentences:
    """A data set with captions and nothing else."""

    name = "sentences"

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines

    def captions(self) -> Mapping[str, Sequence[str]]:
        return {str(number): [line] for number, line in enumerate(self.lines)}


@pytest.mark.slow
def test_captions_are_text(tmp_path: Path, language_folder: Path, text: Path) -> None:
    rows = train(tmp_path / "text", language_folder, text)
    dataset = Sentences(text.read_text().splitlines())
    by_captions = kvtool.sae_train(
        tmp_path / "captions", model=str(language_folder), dataset=dataset, layers=[0, 2], **QUICK
    )
    assert [row.fvu for row in rows] == [row.fvu for row in by_captions]
    with pytest.raises(DatasetError, match="expected captions, found none; data sets that may"):
        kvtool.sae_train(tmp_path / "x", model=str(language_folder), dataset=Sentences([]), **QUICK)


@pytest.mark.slow
def test_outliers_are_left_out(tmp_path: Path, language_folder: Path, text: Path) -> None:
    """A word whose embedding is a hundred times as long as those of the others."""
    loud = tmp_path / "loud"
    loud.mkdir()
    for file in language_folder.iterdir():
        (loud / file.name).write_bytes(file.read_bytes())
    weights = load_file(loud / "model.safetensors")
    (dog,) = load_language(str(language_folder), dtype="float32").token_ids("dog")
    weights["model.embed_tokens.weight"][dog] *= 1000
    save_file(weights, loud / "model.safetensors", metadata={"format": "pt"})
    counts = {}
    for outlier in (10.0, 1e9):
        (row,) = train(tmp_path / f"{outlier}", loud, text, layers=[0], outlier=outlier)
        counts[outlier] = row.n_tokens + row.n_held_out
    n_dogs = text.read_text().split().count("dog")
    assert counts[1e9] - counts[10.0] == n_dogs > 10


def test_no_more_tokens_than_asked_for(tmp_path: Path, language_folder: Path, text: Path) -> None:
    (row,) = train(tmp_path / "saes", language_folder, text, layers=[0], max_tokens=130)
    assert row.n_tokens == 130


@pytest.mark.slow
def test_the_command(tmp_path: Path, language_folder: Path, text: Path, shell: Shell) -> None:
    line = ("sae", "train", "--model", language_folder, "--text", text, "-o", tmp_path / "saes")
    options = ("--layers", "0-1", "--width", "2x", "--k", 3, "--steps", 20, "--batch-size", 64)
    code, out, _ = shell(*line, *options, "--device", "cpu", "--format", "json", "-q")
    rows = json.loads(out)
    assert code == 0
    assert [(row["layer"], row["m"]) for row in rows] == [(0, 64), (1, 64)]
    again = shell(*line, *options, "--device", "cpu", "--format", "json", "-q")
    assert json.loads(again[1]) == rows
    code, out, notes = shell(*line, *options, "--layers", "7")
    assert (code, out) == (2, "")
    assert notes[-1].endswith("layers: expected some of 0 to 2, found 7")

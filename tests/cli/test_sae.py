"""kvtool sae STORE as a shell sees it: rows, a table in 80 columns, a line for each bad input."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import kvtool
from kvtool.store import Run
from tests.support.datasets.files import json_lines
from tests.support.sae.tiny_study import WIDTH, tiny_run, write_saes
from tests.support.shell import LineShell, Shell, in_lines

FEW = ("--tokens", "4", "--conditions", "random,other-image", "--device", "cpu")


@pytest.fixture
def sae(shell: Shell) -> LineShell:
    """Run `kvtool sae ...`: (exit code, lines of standard output, lines of standard error)."""
    return in_lines(shell, "sae")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    return tiny_run(tmp_path_factory.mktemp("sae-shell"), tiny_model)


@pytest.fixture(scope="module")
def saes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_saes(tmp_path_factory.mktemp("saes"))


def refusal(sae: LineShell, run: Run, *arguments: object) -> tuple[int, str]:
    """The exit code and the only line of a command that fails."""
    code, out, err = sae(run.store, *map(str, arguments), *FEW)
    assert out == []
    (line,) = err
    return code, line


@pytest.mark.slow
def test_rows_and_notes(sae: LineShell, run: Run, saes: Path) -> None:
    template = f"{saes}/layer_{{layer}}"
    code, out, err = sae(run.store, "--sae", template, *FEW)
    assert code == 0
    rows = [json.loads(line) for line in out]
    assert [(row["layer"], row["condition"]) for row in rows] == [
        (layer, condition)
        for layer in (0, 2)
        for condition in ("text", "image", "other-image", "random")
    ]
    assert {"fvu", "fvu_low", "transfer", "norm_ratio", "match_chance"} <= rows[0].keys()
    assert any("no evidence of alignment" in line for line in err)


@pytest.mark.slow
def test_the_table_fits_80_columns(
    sae: LineShell, run: Run, saes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = sae(run.store, "--sae", saes, *FEW, "--format", "table")
    text = "\n".join(out)
    assert code == 0
    assert max(map(len, out)) <= 80
    assert "…" not in text
    for word in ("image tokens", "controls", "other-image", "layer from which", "no evidence"):
        assert word in text


@pytest.mark.slow
def test_the_table_of_a_check_fits_80_columns(
    shell: Shell, tiny_model: Path, saes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each SAE has one line of numbers, and one that says in full what came of it."""
    monkeypatch.setenv("COLUMNS", "80")
    cut = shutil.copytree(saes / "layer_0", tmp_path / "layer_0") / "sae_weights.safetensors"
    cut.write_bytes(b"cut short")
    words = ("--max-tokens", 64, "--format", "table")
    options = ("--model", tiny_model, "--sae", saes, "--sae", cut, *words)
    code, text, _ = shell("sae", "check", *options)
    lines = text.splitlines()
    numbers = [line for line in lines if line.strip()[:1].isdigit()]
    verdicts = [line for line in lines if line.startswith("sae ") and ":" in line]
    assert code == 1
    assert max(len(line) for line in lines if line not in verdicts) <= 80
    assert len(numbers) == len(verdicts) == 3
    assert f"{saes}/layer_2/sae_weights.safetensors (saelens, resid_post)" in verdicts[1]
    assert verdicts[2].startswith("sae 3: cannot be read: ")
    assert verdicts[2].count(str(cut)) == 1


@pytest.mark.slow
def test_csv_and_json(sae: LineShell, run: Run) -> None:
    code, out, _ = sae(run.store, "--sae", "none", *FEW, "--format", "csv")
    assert code == 0
    assert out[0].startswith("run,level,layer,condition,sae,n_images")
    code, out, _ = sae(run.store, "--sae", "none", *FEW, "--format", "json")
    result = json.loads("\n".join(out))
    assert result["metric"] == "directions"
    assert result["config"]["sae"] == "none"
    assert {entry["by"] for entry in result["config"]["alignment_layer"]} == {"directions"}


@pytest.mark.slow
def test_an_sae_of_another_width(sae: LineShell, run: Run, tmp_path: Path) -> None:
    code, line = refusal(sae, run, "--sae", write_saes(tmp_path / "wide", (1,), 40))
    assert code == 2
    assert f"expected an SAE of the model's width {WIDTH}, found one of width 40" in line


@pytest.mark.slow
def test_an_sae_of_another_width_among_sound_ones(
    sae: LineShell, run: Run, saes: Path, tmp_path: Path
) -> None:
    broad = write_saes(tmp_path / "wide", (1,), 40)
    code, out, err = sae(run.store, "--sae", saes, "--sae", broad, *FEW)
    assert code == 4
    assert {json.loads(line)["layer"] for line in out} == {0, 2}
    assert any(f"width {WIDTH}, found one of width 40" in line for line in err)


@pytest.mark.slow
def test_layers_without_an_sae(sae: LineShell, run: Run, saes: Path) -> None:
    code, line = refusal(sae, run, "--sae", saes, "--layers", "1")
    assert code == 2
    assert "after layers 1, found none of them" in line


@pytest.mark.slow
def test_a_path_that_is_not_there_and_a_format_that_is_not_known(
    sae: LineShell, run: Run, tmp_path: Path
) -> None:
    code, line = refusal(sae, run, "--sae", tmp_path / "nowhere")
    assert code == 2
    assert "found none" in line
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    save_file({"weights": torch.zeros(3)}, unknown / "sae.safetensors")
    code, line = refusal(sae, run, "--sae", unknown)
    assert code == 1
    assert "expected an SAE of" in line
    assert "name a weight file or folder as it was published, with the settings" in line


class Program:
    """What runs when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.trace,)  # type: ignore[return-value]


def test_a_pickle_with_a_program_is_refused_and_not_run(
    sae: LineShell, run: Run, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    folder = tmp_path / "resid_post_layer_0/trainer_0"
    folder.mkdir(parents=True)
    (folder / "ae.pt").write_bytes(pickle.dumps(Program(trace)))
    settings = {"trainer": {"dict_class": "AutoEncoder", "layer": 0}}
    (folder / "config.json").write_text(json.dumps(settings))
    code, _ = refusal(sae, run, "--sae", folder)
    assert code == 1
    assert not trace.exists()


@pytest.mark.slow
def test_weights_that_are_not_finite(sae: LineShell, run: Run, saes: Path, tmp_path: Path) -> None:
    """Alone it is refused; beside a sound one it is left out, named and counted."""
    broken = shutil.copytree(saes, tmp_path / "broken")
    path = broken / "layer_0/sae_weights.safetensors"
    weights = load_file(path)
    weights["W_enc"][3, 5] = float("nan")
    save_file(weights, path)
    code, line = refusal(sae, run, "--sae", broken / "layer_0")
    assert code == 1
    assert "layer_0" in line
    code, out, err = sae(run.store, "--sae", broken, *FEW)
    assert code == 4
    assert {json.loads(line)["layer"] for line in out} == {2}
    assert any("layer_0" in line for line in err)


@pytest.mark.slow
def test_a_data_set_without_captions(
    sae: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store = tmp_path / "plain.kv"
    kvtool.extract(store, model=str(tiny_model), dataset=f"folder:{few}")
    code, line = refusal(sae, kvtool.open(store).run(), "--sae", "none")
    assert code == 2
    assert "expected a data set with captions, found folder" in line
    assert "coco" in line
    assert "refcoco" in line


@pytest.mark.slow
def test_a_run_that_lacks_what_the_stream_follows_from(
    sae: LineShell, tmp_path: Path, tiny_model: Path
) -> None:
    run = tiny_run(tmp_path, tiny_model, kinds=("key", "value"), layers=[0, 1])
    code, line = refusal(sae, run, "--sae", "none")
    assert code == 2
    assert "extract anew without --layers and with --kinds key,value,projected" in line


@pytest.mark.slow
def test_images_without_a_caption_are_left_out_and_counted(
    sae: LineShell, tmp_path: Path, tiny_model: Path
) -> None:
    run = tiny_run(tmp_path, tiny_model)
    lines = [{"image": f"p{number}", "caption": "the cat is there"} for number in range(5)]
    json_lines(tmp_path / "data/captions.jsonl", lines)
    code, out, err = sae(run.store, "--sae", "none", *FEW)
    assert code == 4
    assert {json.loads(line)["n_images"] for line in out} == {5}
    assert any("image p7: no caption" in line for line in err)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--sae", "none", "--tokens", "0"], "--tokens: expected all or a number"),
        (["--sae", "none", "--conditions", "noise"], "found 'noise'"),
        (["--sae", "none", "--sae", "none"], "none alone"),
        (["--sae", "none", "--match-by", "judge", "--descriptions", "x"], "judge or judge_jsonl"),
        (["--sae", "none", "--judge", "demo"], "expected descriptions"),
    ],
)
def test_usage(sae: LineShell, run: Run, arguments: list[str], problem: str) -> None:
    code, out, err = sae(run.store, *arguments)
    assert (code, out) == (2, [])
    assert problem in err[-1]

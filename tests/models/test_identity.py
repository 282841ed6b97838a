"""What a model is known by: every byte that is read of it, and nothing else."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from kvtool.errors import ModelError
from kvtool.models import files, load_model
from kvtool.models.files import folder_revision
from kvtool.models.hub import Snapshot, resolve, same_model
from kvtool.types import Geometry, ModelInfo
from tests.support import tiny
from tests.support.hub import COMMIT, cached
from tests.support.tiny_language import llama
from tests.support.tiny_words import tokenizer

ROW_BYTES = 4096


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.qwen2_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture
def folder(qwen: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(qwen, tmp_path / "model"))


def info(revision: str, commit: str | None = None) -> ModelInfo:
    return ModelInfo(
        "m", revision, "f", Geometry(1, 1, 1, 1, 1, 1, 1), "float32", "sdpa", commit=commit
    )


@pytest.mark.slow
def test_every_row_of_large_weights_counts(folder: Path) -> None:
    """128 MiB of weights in rows of 4 KiB: a negated row anywhere is another model."""
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(1 << 27)
    revisions = {folder_revision(folder)}
    for row in (1, 9_999, 20_000, (1 << 27) // ROW_BYTES - 1):
        with weights.open("r+b") as file:
            file.seek(row * ROW_BYTES)
            values = file.read(ROW_BYTES)
            file.seek(row * ROW_BYTES)
            file.write(bytes(value ^ 0x80 for value in values))
        revisions.add(folder_revision(folder))
    assert len(revisions) == 5


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("tokenizer.json", '"cat"', '"car"'),
        ("tokenizer_config.json", '"eos_token": "<|im_end|>"', '"eos_token": "</s>"'),
        ("chat_template.jinja", "the cat", "the dog"),
        ("preprocessor_config.json", '"do_normalize": true', '"do_normalize": false'),
        ("config.json", '"num_hidden_layers": 3', '"num_hidden_layers": 2'),
    ],
)
def test_files_that_are_read_count(folder: Path, name: str, old: str, new: str) -> None:
    before = folder_revision(folder)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    assert folder_revision(folder) != before


def test_place_layout_and_origin_do_not_count(folder: Path, qwen: Path) -> None:
    before = folder_revision(folder)
    assert before == folder_revision(qwen) == load_model(str(qwen), dtype="float32").info.revision
    (folder / "README.md").write_text("more")
    (folder / "training_args.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"not read where there are safetensors")
    config = json.loads((folder / "config.json").read_text())
    config |= {"transformers_version": "4.1", "_name_or_path": "/home/someone"}
    config["text_config"]["_name_or_path"] = "elsewhere"
    (folder / "config.json").write_text(json.dumps(config))
    assert folder_revision(folder) == before


def test_of_generation_settings_only_the_end_counts(folder: Path) -> None:
    path = folder / "generation_config.json"
    before = folder_revision(folder)
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "temperature": 0.2, "do_sample": True}))
    assert folder_revision(folder) == before
    path.write_text(json.dumps({**settings, "eos_token_id": [4, 5]}))
    assert folder_revision(folder) != before


def test_an_encoder_has_no_tokenizer(tmp_path: Path) -> None:
    tiny.dinov2(tmp_path)
    before = folder_revision(tmp_path)
    tokenizer(None).save_pretrained(tmp_path)
    assert folder_revision(tmp_path) == before


def test_shards_of_the_index_alone_are_loaded(folder: Path) -> None:
    before = folder_revision(folder)
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert folder_revision(folder) == before
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"left over")
    assert folder_revision(folder) == before
    index["weight_map"]["b"] = "model-00002-of-00002.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert folder_revision(folder) != before


def test_weights_changed_at_the_same_place_are_another_model(folder: Path) -> None:
    before = resolve(str(folder))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    after = resolve(str(folder))
    assert after.revision != before.revision
    assert not same_model(info(before.revision), after)


@pytest.mark.slow
def test_one_checkpoint_by_any_name(hub: Path, qwen: Path, tmp_path: Path) -> None:
    """A folder, its copy, a hub id, its commit, a branch, a pull request, a tag and the snapshot's
    folder.
    """
    snapshot = cached(hub, qwen, "main", "refs/pr/5", "release/2.0", "v1.0")
    names = [
        "acme/tiny",
        *(
            f"acme/tiny@{revision}"
            for revision in (COMMIT, "main", "refs/pr/5", "release/2.0", "v1.0")
        ),
    ]
    snapshots = [
        resolve(name, weights) for name in [*names, str(snapshot)] for weights in (True, False)
    ]
    assert {snapshot.commit for snapshot in snapshots} == {COMMIT}
    copy = Path(shutil.copytree(qwen, tmp_path / "copy"))
    snapshots += [resolve(str(qwen)), resolve(str(copy))]
    assert len({snapshot.revision for snapshot in snapshots}) == 1
    assert all(same_model(info(snapshots[0].revision), snapshot) for snapshot in snapshots)
    model = load_model("acme/tiny@v1.0", dtype="float32").info
    assert (model.name, model.commit, model.revision) == (
        "acme/tiny@v1.0",
        COMMIT,
        snapshots[0].revision,
    )


def test_a_model_without_its_weights_is_known_by_its_commit(hub: Path, qwen: Path) -> None:
    snapshot = cached(hub, qwen, "main")
    stored = load_model("acme/tiny", dtype="float32").info
    (snapshot / "model.safetensors").unlink()
    planned = resolve("acme/tiny", weights=False)
    assert (planned.revision, planned.commit) == ("", COMMIT)
    assert load_model("acme/tiny", weights=False).info.revision == ""
    assert same_model(stored, planned)
    assert not same_model(replace(stored, commit=None), planned)
    assert not same_model(replace(stored, commit="f" * 40), planned)
    assert not same_model(info("", None), Snapshot("folder", qwen, "", None))
    with pytest.raises(
        ModelError, match=r"expected weights in model\.safetensors, found no such file"
    ):
        resolve("acme/tiny")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the hub is asked for; it is out of reach."""
    repos: list[str] = []

    def download(repo: str, **_: object) -> str:
        repos.append(repo)
        raise LocalEntryNotFoundError("out of reach")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return repos


def test_of_a_cached_language_model_the_hub_is_not_asked(
    hub: Path, tmp_path: Path, requests: list[str]
) -> None:
    snapshot = cached(hub, llama(tmp_path / "llama", None), "main")
    for weights in (True, False):
        assert resolve("acme/tiny", weights).commit == COMMIT
    assert requests == []
    (snapshot / "tokenizer.json").unlink()
    resolve("acme/tiny", weights=False)
    assert requests == ["acme/tiny"]


def test_of_a_model_without_its_image_processor_the_hub_is_asked(
    hub: Path, qwen: Path, requests: list[str]
) -> None:
    snapshot = cached(hub, qwen, "main")
    resolve("acme/tiny", weights=False)
    assert requests == []
    for name in files.PROCESSORS:
        (snapshot / name).unlink(missing_ok=True)
    resolve("acme/tiny", weights=False)
    assert requests == ["acme/tiny"]


def test_a_cache_without_references_names_its_commit(hub: Path, qwen: Path) -> None:
    cached(hub, qwen)
    with pytest.raises(
        ModelError, match=f"found commit {COMMIT} in the cache alone; give acme/tiny@{COMMIT}"
    ):
        resolve("acme/tiny")
    assert resolve(f"acme/tiny@{COMMIT}").commit == COMMIT
    with pytest.raises(
        ModelError, match=rf"found a model of the hub's cache; give .*snapshots/{COMMIT}"
    ):
        resolve(str(hub / "models--acme--tiny"))


def test_a_name_that_is_not_found_does_not_suggest_itself(hub: Path) -> None:
    name = "Qwen/Qwen2-VL-2B-Instruct"
    with pytest.raises(ModelError, match="found neither") as caught:
        resolve(name)
    assert f"did you mean {name}?" not in str(caught.value)
    assert not hub.exists()


def test_a_missing_tokenizer_file_is_named(hub: Path, qwen: Path) -> None:
    (cached(hub, qwen, "main") / "tokenizer.json").unlink()
    with pytest.raises(
        ModelError, match=r"expected a tokenizer \(tokenizer\.json\), found no such file"
    ):
        load_model("acme/tiny", dtype="float32")


def test_long_hashing_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "LONG_HASH_BYTES", 1000)
    with caplog.at_level(logging.INFO, "kvtool"):
        folder_revision(folder)
    assert "GB of weights, by which a model is known; this is done once" in caplog.text


def test_resolving_imports_neither_torch_nor_transformers(folder: Path) -> None:
    code = (
        "import sys; from kvtool.models.hub import resolve; resolve(sys.argv[1]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy', "
        "'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 0

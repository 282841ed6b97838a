"""What `kvtool sae train` refuses, in one line: models, disks, options and text."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import kvtool
from kvtool.autoencoders import streams
from kvtool.errors import ModelError, SpaceError, UsageError
from tests.support.sae.text import QUICK, train


@pytest.mark.slow
def test_a_model_that_gives_nan(tmp_path: Path, language_folder: Path, text: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in language_folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="expected finite vectors after layer 1, found NaN"):
        train(tmp_path / "saes", broken, text, layers=None)
    assert len(train(tmp_path / "saes", broken, text, layers=[0])) == 1


@pytest.mark.slow
def test_a_disk_that_is_too_small(
    tmp_path: Path, language_folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(streams, "free_bytes", lambda _: 1000)
        with pytest.raises(SpaceError, match=r"found 1\.0 kB free .* use fewer --layers or --max"):
            train(tmp_path / "saes", language_folder, text)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    # It fills up while the text is run; what was noted before stays.
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SpaceError, match="no space left on the disk"):
            train(tmp_path / "saes", language_folder, text)
    assert len(train(tmp_path / "saes", language_folder, text)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [3]}, "layers: expected some of 0 to 2, found 3"),
        ({"width": "wide"}, "width: expected a number of features, or 8x; found 'wide'"),
        ({"width": 2}, "expected 64 tokens or more and k from 1 to 2"),
        ({"batch_size": 5000}, "expected 5000 tokens or more"),
        ({"k": 0}, "k: expected a whole number from 1"),
        ({"outlier": float("nan")}, "outlier: expected a number from 1"),
        ({"text": []}, "expected --text FILE... or --dataset SPEC, found neither"),
        ({"dataset": "scenes@coco"}, "found both; give one of them"),
        ({"device": "tpu"}, "device: expected cpu, cuda or cuda:N, found 'tpu'"),
    ],
)
def test_what_cannot_be_used(
    tmp_path: Path, language_folder: Path, text: Path, options: dict[str, Any], message: str
) -> None:
    settings = {"layers": [0], "text": [text], **QUICK, **options}
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        kvtool.sae_train(tmp_path / "saes", model=str(language_folder), **settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected text for training and a tenth of it to be held out"),
        (b"\n \n", "expected text for training and a tenth of it to be held out"),
        (b"a red cat\n\xff\xfe\n", "expected text in UTF-8"),
        (None, "expected a file with one document a line, found none that can be read"),
    ],
)
def test_text_that_cannot_be_used(
    tmp_path: Path, language_folder: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        train(tmp_path / "saes", language_folder, path)

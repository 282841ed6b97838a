"""Files of a clone made without git-lfs: what is there is a pointer, and the line says how to fetch
the file.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cases.outcomes import copied, refusal, told
from tests.support.hub import POINTER
from tests.support.shell import Shell


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_of_a_checkpoint(
    shell: Shell, tiny_model: Path, photos: Path, tmp_path: Path, file: str
) -> None:
    model = copied(tiny_model, tmp_path / "model")
    (model / file).write_text(POINTER)
    line = refusal(
        shell("extract", tmp_path / "s.kv", "--model", model, "--dataset", f"folder:{photos}")
    )
    assert f"{file}: expected the file itself, found a git-lfs pointer to it" in line
    assert "git lfs pull" in line


@pytest.mark.slow
def test_of_a_picture(shell: Shell, tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    """Left out and named, and nobody is told to remove it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(photos / "p0.png", folder / "good.png")
    (folder / "pointer.png").write_text(POINTER)
    for quiet in ([], ["-q"]):
        outcome = shell(
            *quiet,
            "extract",
            tmp_path / "s.kv",
            "--model",
            tiny_model,
            "--dataset",
            f"folder:{folder}",
        )
        err = told(outcome, 4, "pointer.png", "git-lfs pointer", "git lfs pull")
        assert not any("remove" in line for line in err)
    assert '"images": 1' in outcome[1] or '"already_stored": 1' in outcome[1]

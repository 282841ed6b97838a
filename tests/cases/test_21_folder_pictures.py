"""Maps of a folder's run stand beside the folder's own pictures, where they were and where they are
now.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cases.outcomes import rows
from tests.support.shell import Shell


@pytest.mark.slow
def test_show_finds_the_pictures(
    shell: Shell, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    store = tmp_path / "s.kv"
    rows(shell("extract", store, "--model", tiny_model, "--dataset", f"folder:{folder}"))
    maps = [tmp_path / f"{name}.png" for name in ("there", "given", "moved", "lost")]
    outcome = shell("show", store, "--image", "p0.png", "-o", maps[0])
    assert (rows(outcome)[0]["images"], outcome[2]) == (["p0.png"], [])
    for location, path in ((folder, maps[1]), (folder.rename(tmp_path / "moved"), maps[2])):
        data = location if location.exists() else tmp_path / "moved"
        outcome = shell("show", store, "--image", "p0.png", "-o", path, "--data", data)
        assert (rows(outcome)[0]["images"], outcome[2]) == (["p0.png"], [])
    assert maps[0].read_bytes() == maps[1].read_bytes() == maps[2].read_bytes()
    _, _, err = shell("show", store, "--image", "p0.png", "-o", maps[3])
    assert any("without the original pictures" in line for line in err)
    assert maps[3].read_bytes() != maps[0].read_bytes()

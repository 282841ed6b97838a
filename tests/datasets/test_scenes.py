from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.datasets import open_dataset
from kvtool.errors import DatasetError, UsageError


@pytest.mark.slow
def test_scenes_need_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path))
    dataset = open_dataset("scenes@msrc")
    assert dataset.name == "msrc"
    assert dataset.root == tmp_path / "scenes" / "msrc"
    assert [ref.id for ref in open_dataset("scenes@msrc").images()] == [
        ref.id for ref in dataset.images()
    ]


@pytest.mark.slow
def test_scenes_at_a_path_and_by_default_coco(tmp_path: Path) -> None:
    assert open_dataset(f"scenes:{tmp_path}/world").root == tmp_path / "world" / "coco"


def test_bad_scenes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="unknown split 'spair'"):
        open_dataset("scenes@spair")
    with pytest.raises(DatasetError, match="found a file"):
        open_dataset(f"scenes:{tmp_path}/file@coco")

"""Extraction of a Hugging Face data set given in Python."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

import kvtool
from kvtool.datasets.given import given_dataset
from kvtool.datasets.images import load_image
from kvtool.errors import ChangedError, UsageError
from kvtool.store import open_store
from tests.engine.pictures import SMALL, pictures
from tests.support import datasets as builders


class Stand:
    """Makes stand-ins for the package `datasets`, of which a Dataset is known by its module
    alone.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module = ModuleType("datasets")
        monkeypatch.setitem(sys.modules, "datasets", self.module)

    def dataset(self, columns: dict[str, list[Any]], images: Sequence[str]) -> Any:
        class Feature:
            def __init__(self, decode: bool = True) -> None:
                self.decode = decode

        image_feature = type("Image", (Feature,), {"__module__": "datasets.features"})
        features = {name: image_feature() if name in images else object() for name in columns}
        return type("Dataset", (StandRows,), {"__module__": "datasets.arrow_dataset"})(
            columns, features
        )


class StandRows:
    def __init__(self, columns: dict[str, list[Any]], features: dict[str, Any]) -> None:
        self.columns, self.features = columns, features

    def cast_column(self, column: str, feature: Any) -> StandRows:
        return type(self)(self.columns, {**self.features, column: feature})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, row: int) -> dict[str, Any]:
        assert not any(getattr(feature, "decode", False) for feature in self.features.values())
        return {name: cells[row] for name, cells in self.columns.items()}


def cells(path: Path) -> Iterator[dict[str, Any]]:
    """As `datasets` holds them undecoded: bytes, a path, and nothing."""
    buffer = io.BytesIO()
    pictures(1)[0].save(buffer, "PNG")
    yield {"bytes": buffer.getvalue(), "path": None}
    yield {"bytes": None, "path": str(builders.picture(path, seed=5))}
    yield {"bytes": None, "path": None}


@pytest.mark.slow
def test_a_hugging_face_data_set(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Stand(monkeypatch).dataset(
        {"label": [0, 1, 2], "photo": list(cells(tmp_path / "a.png"))}, ["photo"]
    )
    store = tmp_path / "s.kv"
    report = kvtool.extract(store, model=model, dataset=data, **SMALL)
    assert report.n_done == 2
    assert [(f.id, f.reason) for f in report.failed.values()] == [
        ("photo/2", "photo/2: expected an image, found none")
    ]
    assert open_store(store).run(report.run).ids == ["photo/0", "photo/1"]
    data.columns["photo"][0] = data.columns["photo"][1]
    with pytest.raises(ChangedError, match=r"1 picture changed \(photo/0\)"):
        kvtool.extract(store, model=model, dataset=data, **SMALL)


def test_hugging_face_data_sets_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch)
    with pytest.raises(UsageError, match="expected a column of images, found 'label'"):
        given_dataset(stand.dataset({"label": [0]}, []))
    several = type("DatasetDict", (dict,), {"__module__": "datasets.dataset_dict"})()
    with pytest.raises(UsageError, match="one split of it, found DatasetDict; take a split"):
        given_dataset(several)


@pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="needs the package datasets"
)
def test_the_real_package(tmp_path: Path) -> None:
    import datasets  # type: ignore[import-not-found,unused-ignore]

    paths = [str(builders.picture(tmp_path / f"{n}.png", seed=n)) for n in range(2)]
    data = datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image())
    refs = given_dataset(data).images()
    assert [ref.id for ref in refs] == ["image/0", "image/1"]
    assert [load_image(ref).tobytes() for ref in refs] == [
        Image.open(path).tobytes() for path in paths
    ]

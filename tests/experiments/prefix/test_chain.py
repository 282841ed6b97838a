"""Prefix conditions of a tiny model: what is extracted, left out and refused on the way."""

from __future__ import annotations

import io
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.engine import local
from kvtool.errors import KvtoolError, ModelError, UsageError
from kvtool.experiments.probe.run import probe
from kvtool.reporting.emit import emit
from kvtool.result import Result
from kvtool.types import Kind
from tests.experiments.prefix.rows import row_of
from tests.support.prefixes import TASK


@pytest.mark.slow
def test_a_prefix_changes_values_behind_the_first_layer(
    scenes: Path, tiny_model: Path, tmp_path: Path
) -> None:
    spec = f"spair71k:{scenes}/spair71k"
    settings: dict[str, Any] = {"dtype": "float32", "keys": "pre-rope", "limit": 8}
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=spec, run="base", **settings)
    result = kvtool.prefix(tmp_path / "s.kv", TASK, conditions=["random"], kinds=["key", "value"])
    base, run = (kvtool.open(tmp_path / "s.kv").run(name) for name in ("base", "base+random"))
    assert run.config.kinds == ("key", "value")
    assert run.config.layers == base.config.layers == (0, 1, 2)
    assert run.ids == base.ids
    assert len(run.ids) == 8
    kinds: tuple[Kind, ...] = ("key", "value")
    for kind in kinds:
        for layer in range(3):
            with_text, without = (source.read(kind, layer, 1).values for source in (run, base))
            if layer == 0:
                np.testing.assert_allclose(with_text, without, rtol=1e-5, atol=1e-5)
            else:
                assert np.abs(with_text - without).max() > 1e-2
    assert result.items[1]["text"].startswith("A rustic wooden table")


@pytest.mark.slow
def test_missing_conditions_are_extracted_once(
    scenes: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, conditions = tmp_path / "s.kv", ["none", "correct", "random", "incorrect", "text:a cat"]
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"spair71k:{scenes}/spair71k"}
    kvtool.extract(store, **options, limit=8, layers=[0, 2], run="base")
    # A run of the user's own serves, whatever else it holds and whatever its name.
    kvtool.extract(store, **options, limit=9, prefix="random", run="mine")
    prefixes: list[str] = []
    extract = local.extract

    def counted(job: Any, **options: Any) -> Any:
        prefixes.append(job.prefix)
        return extract(job, **options)

    monkeypatch.setattr(local, "extract", counted)
    result = kvtool.prefix(store, TASK, prefix=["text:a cat"])
    assert [row["condition"] for row in result.rows[::2]] == conditions
    assert prefixes == [name for name in conditions if name not in ("none", "random")]
    assert result.n_skipped == 0
    assert {row["layer"] for row in result.rows} <= {0, 2}
    opened = kvtool.open(store)
    best = probe(opened.run("base"), TASK, kinds=["value"]).best
    assert best is not None
    none = row_of(result, "none", "best")
    assert [none[name] for name in (result.metric, "n")] == [best[result.metric], best["n"]]
    runs = {item["condition"]: opened.run(item["run"]) for item in result.items}
    assert runs["random"].name == "mine"
    assert runs["text:a cat"].name.startswith("base+text-")
    for name, run in runs.items():
        assert run.config.prefix == name
        assert set(run.ids) >= set(runs["none"].ids)
        if name not in ("none", "random"):
            assert (run.config.kinds, run.config.layers) == (("key", "value"), (0, 2))
    assert kvtool.prefix(store, TASK, prefix=["text:a cat"]).to_json() == result.to_json()
    # A longer run without prefix: the rest alone.
    kvtool.extract(store, **options, limit=9, layers=[0, 2], run="base")
    prefixes.clear()
    longer = kvtool.prefix(store, TASK, conditions=["correct"])
    assert prefixes == ["correct"]
    assert len(opened.run("base+correct").ids) == 9
    assert longer.config["images"] == 9


@pytest.mark.slow
def test_images_without_a_text_are_left_out_of_every_condition(
    scenes: Path, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(scenes / "refcoco", tmp_path / "refcoco")
    captions = tmp_path / "refcoco/images/mscoco/annotations/captions_train2014.json"
    record = json.loads(captions.read_text())
    kvtool.extract(
        tmp_path / "s.kv",
        model=str(tiny_model),
        dataset=f"refcoco:{tmp_path}/refcoco",
        limit=4,
        run="base",
    )
    store = kvtool.open(tmp_path / "s.kv")
    image = store.run("base").ids[1]
    number = int(image.rpartition("_")[2])
    record["annotations"] = [
        annotation for annotation in record["annotations"] if annotation["image_id"] != number
    ]
    captions.write_text(json.dumps(record))
    for _ in range(2):
        result = kvtool.prefix(store, "referring-expression", fresh=True)
        assert [item["condition"] for item in result.items] == ["none", "correct", "random"]
        assert result.n_skipped == 1
        assert result.skipped == [
            f"image {image}: expected a text for --prefix correct, found none for it"
        ]
        assert result.config["images"] == 3
        assert len({row["n"] for row in result.rows}) == 1
        assert "1 left out" in " ".join(printed(result).split())
    full = probe(store.run("base"), "referring-expression", kinds=["value"])
    assert result.n < full.n
    ids = set(store.run("base").ids) - {image}
    best = probe(store.run("base"), "referring-expression", kinds=["value"], ids=ids).best
    assert best is not None
    assert row_of(result, "none", "best")["miou_fgbg"] == best["miou_fgbg"]
    captions.write_text(json.dumps({**record, "annotations": []}))
    with pytest.raises(KvtoolError, match="no COCO caption of image"):
        kvtool.prefix(store, "referring-expression")


def printed(result: Result) -> str:
    out = io.StringIO()
    emit(result, "table", out)
    return out.getvalue()


def assert_another_model_is_refused(store: Path, run: str, model: Path) -> None:
    """A model whose files changed since it was extracted is another one."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"note": "another"}))
    ask = partial(kvtool.prefix, store, "semantic-segmentation", model=str(model))
    with pytest.raises(UsageError, match=f"by {model}, found runs"):
        ask()
    with pytest.raises(
        ModelError,
        match=r"expected revision files-.*, with which run .* was extracted, found files-",
    ):
        ask(run=run, prefix=["text:a dog"])


@pytest.mark.slow
def test_from_nothing_but_a_model_and_a_data_set(
    scenes: Path, tiny_model: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "model": str(tiny_model),
        "dataset": f"bdd10k:{scenes}/bdd10k@val-night+highway",
    }
    result = kvtool.prefix(tmp_path / "new.kv", "semantic-segmentation", **options)
    (base,) = (run for run in kvtool.open(tmp_path / "new.kv").runs() if "+" not in run)
    assert result.config["run"] == base
    assert [item["condition"] for item in result.items] == [
        "none",
        "correct",
        "random",
        "incorrect",
    ]
    assert result.items[1]["text"] == "The image is taken at nighttime and it is from highway"
    assert (
        result.items[3]["text"] == "The image is taken at daytime and it is from city street view"
    )
    moved = tmp_path / "moved"
    shutil.copytree(tiny_model, moved)
    again = kvtool.prefix(
        tmp_path / "new.kv", "semantic-segmentation", prefix=["text:a cat"], model=str(moved)
    )
    assert [item["condition"] for item in again.items] == [
        "none",
        "correct",
        "random",
        "incorrect",
        "text:a cat",
    ]
    runs = kvtool.open(tmp_path / "new.kv").runs()
    assert (
        kvtool.prefix(tmp_path / "new.kv", "semantic-segmentation", prefix=["text:a cat"]) == again
    )
    assert kvtool.open(tmp_path / "new.kv").runs() == runs
    assert_another_model_is_refused(tmp_path / "new.kv", base, moved)


@pytest.mark.slow
def test_a_street_of_neither_domain_has_no_sentence(
    scenes: Path, tiny_model: Path, tmp_path: Path
) -> None:
    kvtool.extract(
        tmp_path / "s.kv", model=str(tiny_model), dataset=f"bdd10k:{scenes}/bdd10k@val", limit=1
    )
    with pytest.raises(UsageError, match=r"use @val-day\+street or @val-night\+highway"):
        kvtool.prefix(tmp_path / "s.kv", "semantic-segmentation")

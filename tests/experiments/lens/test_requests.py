"""What the lens cannot do is said in one line, and costs itself alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.errors import KvtoolError, ModelError, UsageError
from kvtool.store import Run, part_name
from tests.support import datasets, tiny
from tests.support.concepts import cats_and_dogs, planted_run, reading_model
from tests.support.runs import create_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("requests")
    cats_and_dogs(root / "coco", 6)
    reading_model(root / "model")
    return root


@pytest.fixture(scope="module")
def run(root: Path) -> Run:
    return planted_run(root / "study.kv", root / "model", root / "coco", 1)


def extracted(store: Path, **options: Any) -> Run:
    report = kvtool.extract(store, **options)
    return kvtool.open(store).run(report.run)


def one_line(error: pytest.ExceptionInfo[KvtoolError]) -> bool:
    return len(str(error.value).splitlines()) == 1


@pytest.mark.slow
def test_an_encoder_alone(tmp_path: Path, root: Path) -> None:
    model = str(tiny.clip(tmp_path / "clip"))
    run = extracted(tmp_path / "s.kv", model=model, dataset=f"coco:{root / 'coco'}")
    for options in ({}, {"image": run.ids[0]}, {"layers": [0]}):
        with pytest.raises(UsageError, match="an encoder alone") as error:
            kvtool.lens(run, **options)
        assert one_line(error)


@pytest.mark.slow
def test_a_run_without_what_is_needed(tmp_path: Path, root: Path) -> None:
    options = {"model": str(root / "model"), "dataset": f"coco:{root / 'coco'}", "limit": 1}
    run = extracted(tmp_path / "s.kv", kinds=["key", "value"], **options)
    with pytest.raises(UsageError, match=r"extract anew .* --kinds key,value,projected") as error:
        kvtool.lens(run)
    assert one_line(error)


@pytest.mark.slow
def test_a_data_set_without_concepts_names_those_that_have_some(tmp_path: Path, root: Path) -> None:
    datasets.picture(tmp_path / "pictures" / "a.png", seed=0)
    run = extracted(
        tmp_path / "s.kv", model=str(root / "model"), dataset=f"folder:{tmp_path / 'pictures'}"
    )
    with pytest.raises(UsageError, match=r"folder has no concepts; such are .*coco.*own") as error:
        kvtool.lens(run)
    assert one_line(error)
    # Words of an image need none.
    words = kvtool.lens(run, image=run.ids[0])
    assert len(words.rows) == 3 * words.n


@pytest.mark.slow
def test_without_captions_there_are_no_directions(tmp_path: Path, root: Path) -> None:
    data = cats_and_dogs(tmp_path / "coco", 6)
    (data / "annotations/captions_val2014.json").unlink()
    run = extracted(
        tmp_path / "s.kv",
        model=str(root / "model"),
        dataset=f"coco:{data}",
        kinds=["key", "value", "projected"],
    )
    result = kvtool.lens(run)
    assert {row["measure"] for row in result.rows} == {"lens"}
    assert all(row["text"] is None for row in result.rows)
    (note,) = result.config["notes"]
    assert "no word directions: no annotations/captions_val2014.json" in note
    assert "coco" in note.partition("have captions")[2]


@pytest.mark.slow
def test_no_picture_shows_a_concept(run: Run) -> None:
    # One patch of one image may show nothing; nothing is kept then.
    with pytest.raises(KvtoolError, match="expected patches that show one of 2 concepts"):
        kvtool.lens(run, limit=1, tokens=1, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "tokens: expected all or a number of 1 or more, found 0"),
        ({"layers": [3]}, "layers: expected some of 0 to 2, found 3"),
        ({"out": "words.png"}, "name its image with --image"),
        ({"image": "nothing"}, "no image 'nothing' among the 6"),
        ({"image": "COCO_val2014_000000000001", "limit": 1}, "leave --image out"),
        ({"image": "COCO_val2014_000000000001", "out": "words.gif"}, "ends in .png"),
        ({"text": "nothing.txt"}, "--text nothing.txt: expected a file"),
        ({"limit": 0}, "limit"),
    ],
)
def test_options_that_cannot_be(run: Run, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        kvtool.lens(run, **options)
    assert one_line(error)


@pytest.mark.slow
def test_a_model_that_is_another_one(run: Run, tmp_path: Path) -> None:
    stranger = tiny.llava_onevision(tmp_path / "other")
    with pytest.raises(ModelError, match="give the folder that holds it with --model"):
        kvtool.lens(run, model=str(stranger), fresh=True)


def spoiled_run(run: Run, name: str, image: int) -> Run:
    """The run with an image whose stream has a NaN."""
    store = kvtool.open(run.store)
    arrays = [run.read_image(name, ["hidden"], raw=True)["hidden"].copy() for name in run.ids]
    arrays[image][2, 0, 0, 0] = np.nan
    spoiled = create_run(store, replace(run.config, name=name))
    spoiled.enroll(run.ids, run.place)
    spoiled.commit_part(part_name(0, len(run)), run.samples, {"hidden": arrays})
    spoiled.refresh()
    return spoiled


@pytest.mark.slow
def test_an_image_that_is_not_finite_is_left_out_named_and_counted(
    run: Run, shell: Callable[..., Any]
) -> None:
    spoiled = spoiled_run(run, "spoiled", 4)
    code, output, lines = shell(
        "lens", run.store, "--run", "spoiled", "--tokens", "all", "--format", "json"
    )
    assert code == 4
    assert f"left out: image {spoiled.ids[4]}: expected a finite stream" in lines[-2]
    assert "1 images were left out, 5 images measured" in lines[-1]
    record = json.loads(output)
    assert (record["n"], record["n_skipped"]) == (5, 1)
    expected = kvtool.lens(run, tokens="all")
    assert {row["n_images"] for row in record["rows"]} == {5}
    assert [row["layer"] for row in record["rows"]] == [row["layer"] for row in expected.rows]


@pytest.mark.slow
def test_an_annotation_that_cannot_be_used_costs_its_image(tmp_path: Path, root: Path) -> None:
    data = cats_and_dogs(tmp_path / "coco", 6)
    path = data / "annotations/instances_val2014.json"
    record = json.loads(path.read_text())
    del record["images"][5]
    path.write_text(json.dumps(record))
    run = planted_run(tmp_path / "s.kv", root / "model", data, 1)
    result = kvtool.lens(run, tokens="all")
    assert (result.n, result.n_skipped) == (5, 1)
    assert run.ids[5] in result.skipped[0]


@pytest.mark.slow
def test_the_command(run: Run, tmp_path: Path, shell: Callable[..., Any]) -> None:
    arguments = ("lens", run.store, "--run", "planted", "--tokens", "all")
    plot = tmp_path / "lens.svg"
    code, table, _ = shell(*arguments, "--format", "table", "--plot", plot)
    assert code == 0
    assert max(map(len, table.splitlines())) <= 80
    for text in ("lens: 2 concepts, 6 images; chance 0.5", "directions: 2 concepts", "permuted"):
        assert text in table
    assert plot.read_text().startswith("<?xml")
    code, output, _ = shell(*arguments, "--format", "jsonl")
    rows = [json.loads(line) for line in output.splitlines()]
    assert [(row["measure"], row["layer"]) for row in rows] == [
        (measure, layer) for layer in range(3) for measure in ("lens", "directions")
    ]
    code, output, _ = shell(
        "lens", run.store, "--run", "planted", "--image", run.ids[2], "--format", "table"
    )
    assert code == 0
    assert max(map(len, output.splitlines())) <= 80
    assert "cat 8" in output
    for tokens in ("none", "0", "-3", "1.5"):
        code, _, lines = shell(*arguments[:-1], tokens)
        assert (code, len(lines)) == (2, 1)
    code, _, lines = shell(*arguments, "--image", run.ids[2], "--plot", plot)
    assert (code, len(lines)) == (2, 1)


@pytest.mark.slow
def test_the_page_has_its_article(run: Run, tmp_path: Path, shell: Callable[..., Any]) -> None:
    kvtool.lens(run, tokens="all")
    page = tmp_path / "page.html"
    code, _, lines = shell("report", run.store, "-o", page)
    assert code == 0, lines
    text = page.read_text()
    assert "Words read at image tokens" in text
    assert "Word directions find the patches that words name" in text
    assert "The likeliest word on each patch" in text
    assert f"Likeliest words, image {run.ids[2]}" in text
    assert f"kvtool lens {Path(run.store).name} --run planted --tokens all" in text

"""Pictures of the page and of `show`: one drawing, of what was scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import kvtool
from kvtool.datasets.base import DatasetBase
from kvtool.datasets.identity import dataset_of
from kvtool.errors import KvtoolError, UsageError
from kvtool.pictures import tiles
from kvtool.pictures.contact_sheet import ContactSheet, Tile
from kvtool.pictures.examples import SIDE_PX, _leading_blocks, draw_examples
from kvtool.pictures.thumbnails import Drawn, Thumbnails
from kvtool.pictures.tiles import drawings_of
from kvtool.registry import PLUGINS
from kvtool.result import Result, Row
from kvtool.store import Run
from kvtool.tasks.saved import (
    Saved,
    drawing_of,
    example_images,
    saved_predictions,
    scored_heads,
    scored_task,
)
from kvtool.types import Block
from tests.support.tasks import co_segmentation as msrc
from tests.support.tasks import foreground_segmentation as pascal
from tests.support.tasks import semantic_correspondence as spair
from tests.support.tasks import temporal_correspondence as davis
from tests.support.tasks.runs import RUNS
from tests.support.units import PLANTED

CPU = torch.device("cpu")
OPTIONS: dict[str, dict[str, Any]] = {
    spair.TASK: {"limit": 7, "upsample": True},
    pascal.TASK: {"episodes": 30, "shots": 2, "seed": 3},
    msrc.TASK: {"layers": [PLANTED[0]], "restarts": 2, "seed": 1},
    davis.TASK: {"propagation": "nearest"},
    "semantic-segmentation": {"limit": 4},
    "bdd10k": {"all_classes": True},
    "referring-expression": {"limit": 5, "cutoff": "otsu"},
}
"""Not the defaults, so that a picture by the defaults would be another one."""


class Album(Thumbnails):
    """Pictures that are also kept as they were drawn, by caption."""

    def __init__(self) -> None:
        super().__init__(10**9)
        self.drawn: dict[str, Image.Image] = {}

    def add(self, image: Image.Image, caption: str) -> Drawn | None:
        """Add a picture."""
        self.drawn[caption] = image
        return super().add(image, caption)


@pytest.fixture
def sheet_tiles(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """The tiles of all sheets of `show`, their pictures as large as those of a page."""
    sheet: list[Tile] = []

    class Spy(ContactSheet):
        def __init__(self, tiles: Any, *others: Any) -> None:
            sheet.extend(tiles)
            super().__init__(tiles, *others)

    monkeypatch.setattr(tiles, "ContactSheet", Spy)
    monkeypatch.setattr(tiles, "LARGEST_PX", SIDE_PX)
    return sheet


def run_of(name: str, folder: Path) -> tuple[Run, str]:
    """A run of RUNS, and the task that it is for."""
    return RUNS[name](folder), {"bdd10k": "semantic-segmentation"}.get(name, name)


def best_of(result: Result) -> Block:
    assert result.best is not None
    return Block(result.best["kind"], result.best["layer"], result.best["kv_head"])


def examples(
    run: Run, result: Result, count: int, pictures: Thumbnails
) -> dict[Block, list[Drawn]]:
    return draw_examples(run, dataset_of(run), result, count, 1, CPU, pictures)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_page_and_show_draw_the_same_pixels(
    name: str, tmp_path: Path, sheet_tiles: list[Tile]
) -> None:
    """Of the same block and images, before the page's pictures are compressed."""
    run, task = run_of(name, tmp_path)
    result = kvtool.probe(run, task, **OPTIONS[name])
    album = Album()
    (block,) = examples(run, result, 3, album)
    assert block == best_of(result)
    assert 1 <= len(album.drawn) <= 3
    images = example_images(scored_task(run, task, dataset_of(run), result, CPU), 3)
    kvtool.show(run, images, tmp_path / "a.png", task=task, block=block, limit=100)
    tile_pictures = {" · ".join(tile.caption): tile.picture for tile in sheet_tiles}
    for caption, picture in album.drawn.items():
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(tile_pictures[caption]))


def test_blocks_stand_by_the_best_of_their_kinds() -> None:
    """Whatever the order of their worst ones is."""
    scores = {("value", 0): 0.9, ("key", 0): 0.8, ("projected", 0): 0.7}
    scores |= {("value", 1): 0.1, ("key", 1): 0.2, ("projected", 1): 0.3}
    rows: list[Row] = [
        {"kind": kind, "layer": layer, "kv_head": 0, "j": score}
        for (kind, layer), score in scores.items()
    ]
    result = Result("probe", "co-segmentation", "j", 9, rows, rows[0])
    kinds = [block.kind for block in _leading_blocks(result, 3)]
    assert kinds == ["value", "key", "projected"]


PLUGIN = """
from PIL import ImageOps
from kvtool.tasks.co_segmentation import CoSegmentation

class Framed(CoSegmentation):
    name = "framed"
    serves = ("msrc",)

    def draw(self, picture, record, folder):
        frame = len((folder / record["file"]).read_bytes()) % 20
        return ImageOps.expand(picture, 5 + frame, (200, 30, 30))

TASKS = {"framed": Framed}
"""
"""A task that draws itself: a frame whose width says which file it was given."""


@pytest.mark.slow
def test_a_plugin_that_draws_itself_is_on_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sheet_tiles: list[Tile]
) -> None:
    (tmp_path / "framed.py").write_text(PLUGIN)
    monkeypatch.setenv(PLUGINS, str(tmp_path / "framed.py"))
    run = RUNS[msrc.TASK](tmp_path)
    result = kvtool.probe(run, "framed", layers=[PLANTED[0]])
    album = Album()
    examples(run, result, 2, album)
    kvtool.show(run, list(album.drawn), tmp_path / "a.png", task="framed", block=best_of(result))
    assert len(album.drawn) == len(sheet_tiles) == 2
    for tile in sheet_tiles:
        picture = np.asarray(album.drawn[tile.caption[0]])
        assert (picture[:5] == (200, 30, 30)).all()
        np.testing.assert_array_equal(picture, np.asarray(tile.picture))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_what_is_drawn_is_what_the_probe_saved(name: str, tmp_path: Path) -> None:
    """The files behind the pictures are those of --save-predictions, byte by byte."""
    run, task = run_of(name, tmp_path)
    options = {key: value for key, value in OPTIONS[name].items() if key != "all_classes"}
    result = kvtool.probe(run, task, save_predictions=tmp_path / "saved", **options)
    block = best_of(result)
    work = scored_task(run, task, dataset_of(run), result, CPU)
    assert work.n == result.n
    work.only(set(example_images(work, 2)))
    heads = scored_heads(run, block, result)
    with saved_predictions(run, work, block, heads, CPU) as saved:
        assert saved.records
        for record in saved.records:
            picture_file = (saved.folder / record["file"]).read_bytes()
            scored_file = (tmp_path / "saved" / record["file"]).read_bytes()
            assert set(picture_file.splitlines()) <= set(scored_file.splitlines())
            assert picture_file == scored_file or drawing_of(work) == "matches"


@pytest.mark.slow
def test_a_task_is_made_as_it_was_scored(tmp_path: Path) -> None:
    """Its options, its limit, its seed, and the images that the run held then."""
    run = RUNS[pascal.TASK](tmp_path)
    dataset = dataset_of(run)
    result = kvtool.probe(run, pascal.TASK, episodes=30, shots=2, seed=3, limit=9)
    work = scored_task(run, pascal.TASK, dataset, result, CPU)
    assert (work.n, work.shots, work.seed) == (9, 2, 3)
    assert work.episodes == pascal_episodes(run, dataset)
    # Fewer images than the run holds: those that it began with.
    fewer = run.ids[:-2]
    config = {**result.config, "images": len(fewer), "images_hash": run.images_hash(fewer)}
    before = scored_task(run, pascal.TASK, dataset, replace(result, config=config), CPU)
    assert before.images() <= set(fewer)
    config["images_hash"] = run.images_hash(run.ids[1:])
    with pytest.raises(KvtoolError, match=r"images that cannot be told .*: probe again"):
        scored_task(run, pascal.TASK, dataset, replace(result, config=config), CPU)
    config = {**result.config, "truth_hash": "another"}
    with pytest.raises(KvtoolError, match=r"annotations of pascal5i changed .*: probe again"):
        scored_task(run, pascal.TASK, dataset, replace(result, config=config), CPU)


def pascal_episodes(run: Run, dataset: DatasetBase) -> list[Any]:
    """The episodes that the probe of this test drew."""
    from kvtool.tasks.foreground_segmentation import ForegroundSegmentation
    from kvtool.tasks.truth import sizes_of

    task = ForegroundSegmentation(
        dataset,  # type: ignore[arg-type]
        sizes_of(run),
        CPU,
        limit=9,
        episodes=30,
        shots=2,
        seed=3,
    )
    return list(task.episodes)


def test_a_task_that_says_nothing_of_its_pictures() -> None:
    """Examples are some of its images; masks with a truth are drawn, anything else is refused."""

    class Bare:
        name = "bare"

        def images(self) -> set[str]:
            return {f"image{number}" for number in range(9)}

    class WithTruth(Bare):
        def truth(self, record: Any) -> None: ...

    class Itself(WithTruth):
        def draw(self, picture: Any, record: Any, folder: Any) -> None: ...

    assert example_images(Bare(), 3) == ["image0", "image3", "image6"]
    assert [drawing_of(task) for task in (Bare, WithTruth, Itself, None)] == [
        None,
        "masks",
        "itself",
        None,
    ]
    with pytest.raises(UsageError, match=r"bare draws no pictures: .* neither draw nor truth"):
        drawings_of(Saved(Bare(), [], Path()), {}, set())

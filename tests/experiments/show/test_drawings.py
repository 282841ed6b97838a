"""kvtool show: what is drawn is what is scored, where it belongs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kvtool
from kvtool.errors import DatasetError
from kvtool.experiments.probe.run import probe
from kvtool.pictures.components import FRAME, Sheet
from kvtool.pictures.contact_sheet import Tile
from kvtool.pictures.overlays import OBJECTS, RIGHT, WRONG
from kvtool.pictures.tiles import columns_of
from kvtool.tasks.spread import spread
from kvtool.types import Block
from tests.experiments.show.sheets import BEST, SIDE_PX, read
from tests.support.keys import Array, planted
from tests.support.tasks import semantic_correspondence as spair
from tests.support.tasks import temporal_correspondence as davis
from tests.support.tasks.runs import RUNS
from tests.support.units import PLANTED


def halves(tile: Tile) -> tuple[Array, Array]:
    """The two pictures of a tile."""
    pixels = np.asarray(tile.picture).astype(int)
    return pixels[:, :SIDE_PX], pixels[:, -SIDE_PX:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["foreground-segmentation", "co-segmentation", "semantic-segmentation"]
)
def test_what_is_predicted_is_tinted_and_nothing_else(
    task: str, tmp_path: Path, sheet_tiles: list[Tile]
) -> None:
    """The mask that --save-predictions writes, on the right; no tint at all on the left."""
    run = RUNS[task](tmp_path)
    limit = 40 if task == "foreground-segmentation" else None
    probe(run, task, layers=[PLANTED[0]], save_predictions=tmp_path / "masks", limit=limit)
    files = json.loads((tmp_path / "masks/predictions.json").read_text())["files"]
    record = files[5]
    image = record.get("image") or record["query"]
    picture = kvtool.show(run, image, tmp_path / "a.png", task=task, limit=1)
    assert picture.block == BEST
    left, right = halves(sheet_tiles[0])
    first = next(record for record in files if image in (record.get("image"), record.get("query")))
    with Image.open(tmp_path / "masks" / first["file"]) as mask:
        expected = np.asarray(mask.resize((SIDE_PX, len(right)), Image.Resampling.NEAREST)) > 0
    outline = (np.ptp(right, axis=-1) == 0) & np.isin(right[..., 0], (0, 255))
    tinted = np.ptp(right, axis=-1) > 8
    assert 0.05 < expected.mean() < 0.95
    assert outline.mean() < 0.2
    np.testing.assert_array_equal(tinted[~outline], expected[~outline])
    assert (left != right).any()
    assert read(picture.path).shape[1::-1] == picture.wh_px


def test_sentences_of_several_images(tmp_path: Path, sheet_tiles: list[Tile]) -> None:
    run = RUNS["referring-expression"](tmp_path)
    sheet = kvtool.show(
        run, run.ids[:2], tmp_path / "a.png", task="referring-expression", block=BEST
    )
    assert [tile.caption[0].split(" · ")[0] for tile in sheet_tiles] == [
        f'"thing {i} {j}"' for i in (0, 1) for j in (0, 1)
    ]
    assert sheet.notes == ()
    second = kvtool.show(
        run, run.ids[:2], tmp_path / "b.png", task="referring-expression", block=BEST, limit=3
    )
    assert second.notes == ("3 of 4 drawn: --limit sets how many",)
    assert len(sheet_tiles) == 7


@pytest.mark.slow
def test_a_sheet_of_large_pictures_is_no_wider_than_a_screen_can_show(tmp_path: Path) -> None:
    run = RUNS["referring-expression"](tmp_path)
    for n in (1, 2, 8):
        sheet = kvtool.show(
            run, run.ids, tmp_path / "a.png", task="referring-expression", block=BEST, limit=n
        )
        assert 1200 < sheet.wh_px[0] <= 2000


@pytest.mark.slow
def test_a_line_ends_where_the_prediction_is(tmp_path: Path, sheet_tiles: list[Tile]) -> None:
    """Every keypoint of PLANTED is right; those of a block of noise are at the cells that
    --save-predictions says.
    """
    run = RUNS["semantic-correspondence"](tmp_path)
    for name, block, colour in (("right", BEST, RIGHT), ("wrong", Block("value", 2, 1), WRONG)):
        options: dict[str, Any] = {"layers": [block.layer], "heads": [block.kv_head]}
        probe(run, spair.TASK, save_predictions=tmp_path / name, **options)
        answers = [
            json.loads(line)
            for line in (tmp_path / name / "answers.jsonl").read_text().splitlines()
        ]
        matches = [
            answer
            for answer in answers
            if {answer["src_imname"], answer["trg_imname"]} == {"cat0i0.jpg", "cat0i1.jpg"}
        ]
        sheet_tiles.clear()
        kvtool.show(
            run,
            ["cat0/cat0i0", "cat0/cat0i1"],
            tmp_path / f"{name}.png",
            task=spair.TASK,
            block=block,
        )
        assert len(sheet_tiles) == len(matches) == 2
        for tile, answer in zip(sheet_tiles, matches, strict=True):
            assert f"of {spair.POINTS} right" in tile.caption[0]
            pixels = np.argwhere((halves(tile)[1] == colour).all(axis=-1))[:, ::-1]
            true = np.array(answer["trg_kps"]) * SIDE_PX / spair.WH[0]
            for point, truth in zip(
                np.array(answer["prd_kps"]) * SIDE_PX / spair.WH[0], true, strict=True
            ):
                is_right = (
                    np.hypot(*(point - truth))
                    <= 0.1 * (answer["trg_bndbox"][2] - 2) * SIDE_PX / spair.WH[0]
                )
                if is_right == (colour == RIGHT):
                    assert np.hypot(*(pixels - point).T).min() < 2
        assert (f"{spair.POINTS} of {spair.POINTS} right" in sheet_tiles[0].caption[0]) == (
            name == "right"
        )


@pytest.mark.slow
def test_the_frames_of_a_sequence(tmp_path: Path, sheet_tiles: list[Tile]) -> None:
    run = davis.make_run(tmp_path)
    frames = [image for image in run.ids if image.startswith("two/")]
    truth = davis.write_davis(tmp_path / "again")
    sheet = kvtool.show(run, "two", tmp_path / "whole.png", task=davis.TASK, block=BEST)
    assert (sheet.images, [tile.caption[0] for tile in sheet_tiles]) == (("two",), frames)
    assert [tile.caption[1] for tile in sheet_tiles] == ["given", *["J 1.00, 1.00"] * 5]
    for tile, frame in zip(sheet_tiles, frames, strict=True):
        for y, x in np.ndindex(davis.GRID):
            cell = np.asarray(tile.picture).astype(float)[
                20 * y + 6 : 20 * y + 14, 20 * x + 6 : 20 * x + 14
            ]
            assert nearest_object(cell.reshape(-1, 3).mean(axis=0)) == truth[frame][y, x]
    sheet_tiles.clear()
    single = kvtool.show(run, frames[3], tmp_path / "one.png", task=davis.TASK, block=BEST)
    assert (
        [tile.caption[0] for tile in sheet_tiles]
        == [frames[0], frames[3]]
        == [frames[0], *single.images]
    )


def nearest_object(colour: Array) -> int:
    """Whose colour was laid over grey; 0: nobody's."""
    over_grey = [np.zeros(3)] + [
        np.array(OBJECTS[number]) / 2 - np.mean(OBJECTS[number]) / 2 for number in (0, 1)
    ]
    return int(np.argmin([np.abs(colour - colour.mean() - hue).sum() for hue in over_grey]))


def test_maps_of_two_images_beside_their_pictures(tmp_path: Path) -> None:
    run = RUNS["co-segmentation"](tmp_path)
    picture = kvtool.show(run, run.ids[:2], tmp_path / "deep/maps.png", layers=[1, 5], heads=[1])
    sheet = read(picture.path)
    assert (picture.what, picture.kind, picture.block, picture.notes) == ("pca", "value", None, ())
    maps = Sheet((6, 8), 2, 1).picture
    assert sheet.shape[0] >= 2 * maps.height
    assert sheet.shape[1] > maps.width + 100
    shutil.rmtree(tmp_path / "data")
    bare = kvtool.show(run, run.ids[:2], tmp_path / "bare.png", layers=[1, 5], heads=[1])
    assert len(bare.notes) == 1
    assert "without the original pictures" in bare.notes[0]
    assert bare.wh_px == (maps.width, 2 * maps.height)
    with pytest.raises(DatasetError, match="--data"):
        kvtool.show(run, run.ids[0], tmp_path / "c.png", task="co-segmentation", block=BEST)
    with pytest.raises(DatasetError, match="elsewhere"):
        kvtool.show(run, run.ids[0], tmp_path / "d.png", data=tmp_path / "elsewhere")


@pytest.mark.slow
def test_input_agnostic_keys_are_framed_where_they_are_known(tmp_path: Path) -> None:
    run = planted(tmp_path / "s", 12, [(0, 0), (1, 1), (4, 0), (5, 1)], layers=8, heads=2)
    before = kvtool.show(run, run.ids[0], tmp_path / "a.png", kind="key")
    assert not (read(before.path) == FRAME).all(axis=-1).any()
    kvtool.variance(run)
    after = read(kvtool.show(run, run.ids[0], tmp_path / "b.png", kind="key", layers=[1]).path)
    assert (after == FRAME).all(axis=-1).any()


def test_how_many_and_how_large() -> None:
    assert [columns_of(n, 2) for n in (1, 2, 4, 5, 12)] == [1, 2, 2, 3, 3]
    assert [columns_of(n, 1) for n in (1, 3, 6, 12)] == [1, 2, 3, 4]
    assert spread(list(range(10)), 3) == [0, 3, 6]
    assert spread([1, 2], 3) == [1, 2]

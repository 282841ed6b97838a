"""Blocks and images whose values are not finite, in the analyses: left out or refused, with a line
that says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.asking.answering import Answerer
from kvtool.asking.caches import unanswerable
from kvtool.datasets.spair71k import SPair71k
from kvtool.errors import KvtoolError
from kvtool.pictures.components import PAPER, rgb
from kvtool.store import Run, open_store
from kvtool.types import Block, Sample
from tests.support.paired import MODEL_RIGHT, VALUE_RIGHT, plant_answers, planted_run, questions_of
from tests.support.prefixes import TASK, WITHOUT, half_planted, write_conditions
from tests.support.scenes import World
from tests.support.tasks.semantic_correspondence import GRID, WH, planted, write_spair
from tests.support.units import PLANTED, Array, Fill, noise, sample, write_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spair(tmp_path_factory.mktemp("spair"))


def spoiling(fill: Fill, block: tuple[int, int], image: str = "") -> Fill:
    """`fill`, but with a NaN in one block, of one image or of all."""

    def spoiled(s: Sample, layer: int, head: int) -> Array:
        values = fill(s, layer, head)
        if (layer, head) == block and image in ("", s.id):
            values[0, 0] = np.nan
        return values

    return spoiled


def spair_run(path: Path, root: Path, fill: Fill, **options: Any) -> Run:
    dataset = SPair71k(root, "test")
    samples = [sample(ref.id, i, WH, GRID) for i, ref in enumerate(dataset.images())]
    return write_run(path, "spair71k", "test", root, samples, fill, **options)


def test_search_says_how_many_and_takes_a_sound_layer_where_none_is_asked_for(
    tmp_path: Path, root: Path
) -> None:
    run = spair_run(tmp_path / "s.kv", root, spoiling(noise(1), (4, 0)))
    image = run.ids[0]
    explicit = kvtool.search(run, image, (45, 35), layer=4, kv_head=0)
    assert (
        f"{len(run.ids)} values that are not finite: patches that hold some are left out"
        in explicit.config["notes"]
    )
    default = kvtool.search(run, image, (45, 35))
    assert (default.config["layer"], default.config["kv_head"]) == (
        3,
        0,
    )  # the middle one of the seven others
    assert not any("finite" in note for note in default.config["notes"])


def test_show_refuses_to_draw_what_such_a_block_predicts(tmp_path: Path, root: Path) -> None:
    run = spair_run(
        tmp_path / "s.kv", root, spoiling(planted(SPair71k(root, "test").pairs()), PLANTED)
    )
    with pytest.raises(KvtoolError, match="value, layer 5, head 1: values that are not finite"):
        kvtool.show(
            run, run.ids[:2], tmp_path / "out.png", task=TASK, block=Block("value", *PLANTED)
        )
    assert not (tmp_path / "out.png").exists()


def test_maps_leave_such_tokens_white() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    spoiled = vectors.copy()
    spoiled[[3, 11], [0, 5]] = [np.nan, np.inf]
    colours = rgb(spoiled)
    sound = np.delete(np.arange(30), [3, 11])
    assert (colours[[3, 11]] == PAPER).all()
    assert (colours[sound] == rgb(vectors[sound])).all()
    assert (rgb(np.full((4, 8), np.nan, np.float32)) == PAPER).all()


@pytest.mark.slow
def test_prefix_has_no_score_of_a_spoiled_block(tmp_path: Path, root: Path) -> None:
    """The block that is best without prefix is spoiled under the correct one, where another is the
    best.
    """
    pairs = SPair71k(root, "test").pairs()
    fills = {
        "none": half_planted(pairs),
        "correct": spoiling(planted(pairs), WITHOUT),
        "random": noise(3),
    }
    store = write_conditions(tmp_path / "s.kv", root, fills)
    result = kvtool.prefix(store, TASK, conditions=["none", "correct", "random"])
    rows = {(row["condition"], row["choice"]): row for row in result.rows}
    fixed = rows["correct", "fixed"]
    assert (fixed["pck_image"], fixed["pck_image_low"], fixed["difference"]) == (None, None, None)
    assert fixed["nonfinite"] == len(store.run("correct").ids)
    assert (rows["correct", "best"]["layer"], rows["correct", "best"]["kv_head"]) == PLANTED
    assert rows["correct", "best"]["difference"] > 0
    assert any("run correct: values that are not finite" in note for note in result.config["notes"])


@pytest.mark.slow
def test_paired_leaves_it_out(tmp_path: Path, embedded_world: World) -> None:
    scenes = embedded_world("blink")
    questions = questions_of(scenes / "blink", "Art_Style")
    spoiled = planted_run(
        tmp_path / "s.kv",
        scenes / "blink" / "Art_Style",
        questions,
        VALUE_RIGHT,
        lambda fill: spoiling(fill, PLANTED),
    )
    plant_answers(spoiled, questions, MODEL_RIGHT)
    result = kvtool.paired(tmp_path / "s.kv", "art-style")
    (row,) = [
        r for r in result.rows if (r["kind"], r["layer"], r["kv_head"]) == ("value", *PLANTED)
    ]
    assert row["nonfinite"] > 0
    assert all(row[name] is None for name in ("value", "both", "n_both", "mcnemar_p", "union"))
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) != PLANTED
    assert "value: layer 5, head 1" in result.skipped[0]
    with pytest.raises(KvtoolError, match="expected a block that can answer, found none"):
        kvtool.paired(
            tmp_path / "s.kv", "art-style", kinds=["value"], layers=[PLANTED[0]], heads=[PLANTED[1]]
        )


def test_images_with_such_caches_are_not_asked_about(tmp_path: Path, root: Path) -> None:
    run = spair_run(
        *(tmp_path / "s.kv", root, spoiling(noise(1), (2, 1), "cat0/cat0i3")),
        kinds=("key", "value"),
        part_size=3,
    )
    (image,) = unanswerable(run, set(run.ids))
    assert image == "cat0/cat0i3"
    assert "key, value" in unanswerable(run, {image})[image]
    assert unanswerable(run, set(run.ids) - {image}) == {}
    answerer = Answerer(open_store(run.store), run, None, "cpu", 16)
    assert answerer.ask_image(image, ("what",), [frozenset()]) == {frozenset(): {"what": None}}
    assert [*open_store(run.store).results()] == [], (
        "it may be extracted anew, and then has an answer"
    )

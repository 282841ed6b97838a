"""SPair-71k: runs that hold some images or are baselines, stores and requests that cannot be
served.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from kvtool.datasets.spair71k import SPair71k
from kvtool.errors import KvtoolError, StoreError, UsageError
from kvtool.experiments.probe.run import probe
from kvtool.features import layers
from kvtool.store import Run, Store, open_store
from kvtool.tasks.evaluation import tasks_of
from tests.support.messages import messages
from tests.support.tasks.semantic_correspondence import (
    GRID,
    TASK,
    WH,
    planted,
    summary,
    write_spair,
)
from tests.support.units import DIM, PLANTED, noise, sample, write_run
from tests.tasks.semantic_correspondence.reference import pairs_of, slow_pck


@pytest.mark.slow
def test_limit_and_missing_images(run: Run, tmp_path: Path) -> None:
    assert probe(run, TASK, layers=[5], limit=7).n == 7
    pairs = pairs_of(run)
    dataset = SPair71k(Path(str(run.config.dataset_path)), "test")
    samples = [sample(ref.id, i, WH, GRID) for i, ref in enumerate(dataset.images())][:3]
    short = write_run(
        tmp_path / "store", "spair71k", "test", Path(str(dataset.root)), samples, planted(pairs)
    )
    result = probe(short, TASK)
    ids = {s.id for s in samples}
    complete = [pair for pair in pairs if {pair.src_id, pair.trg_id} <= ids]
    assert (result.n, result.n_skipped) == (len(complete), 60 - len(complete))
    assert "the run does not hold" in result.skipped[0]
    assert summary(result, "value", *PLANTED)["pck_image"] == pytest.approx(
        slow_pck(short, "value", *PLANTED, complete)[0]
    )


def test_nothing_to_score_is_one_line(run: Run, tmp_path: Path) -> None:
    root = Path(str(run.config.dataset_path))
    lonely = write_run(
        tmp_path / "store", "spair71k", "test", root, [sample("cat0/cat0i0", 0, WH, GRID)], noise(0)
    )
    with pytest.raises(KvtoolError, match="holds both images of none of 60 pairs"):
        probe(lonely, TASK)


@pytest.mark.slow
def test_baselines_and_other_runs(tmp_path: Path) -> None:
    root = write_spair(tmp_path / "data", categories=1, images=3)
    dataset = SPair71k(root, "test")
    samples = [sample(ref.id, i, WH, GRID) for i, ref in enumerate(dataset.images())]
    store, fill = tmp_path / "store", planted(dataset.pairs())
    write = partial(write_run, store, "spair71k", "test", root)
    main = write(samples, fill, name="main")
    tower = write(samples, fill, name="tower", model="siglip", kinds=("vision",), seed=7)
    write(samples[:2], fill, name="short", model="clip", kinds=("vision",))
    write(samples, fill, name="same-model", kinds=("vision",))
    result = probe(main, TASK)
    assert [(row["run"], row["kind"]) for row in result.baselines] == [
        ("main", "projected"),
        ("main", "vision"),
        ("tower", "vision"),
    ]
    assert result.baselines[2]["pck_image"] == pytest.approx(
        slow_pck(tower, "vision", 3, 0, dataset.pairs())[0]
    )
    assert any(
        "run short is no baseline: it lacks 1 of the images" in line for line in result.skipped
    )
    single = probe(open_store(store).run("tower"), TASK)
    assert single.best is not None
    assert single.best["kind"] == "vision"


def test_wrong_requests(run: Run) -> None:
    assert tasks_of(run) == [TASK]
    with pytest.raises(
        UsageError, match=r"cannot serve foreground-segmentation; data sets that can: .*pascal5i"
    ):
        probe(run, "foreground-segmentation")
    with pytest.raises(UsageError, match="did you mean 'semantic-correspondence'"):
        probe(run, "semantic-correspondance")
    with pytest.raises(UsageError, match="value has no layer 9; stored: 0, 1"):
        probe(run, TASK, layers=[9])
    with pytest.raises(UsageError, match="value has no kv_head 2"):
        probe(run, TASK, heads=[2])
    with pytest.raises(UsageError, match="key is not stored, only value"):
        probe(run, TASK, kinds=["key"])
    with pytest.raises(
        UsageError, match=r"option 'upsmaple' is unknown; .* takes: backend, upsample"
    ):
        probe(run, TASK, upsmaple=True)
    with pytest.raises(UsageError, match="option 'shots' is of foreground-segmentation alone"):
        probe(run, TASK, shots=1)
    with pytest.raises(UsageError, match="vision has no layer 0; stored: 3"):
        probe(run, TASK, kinds=["vision", "projected"], layers=[0])
    with pytest.raises(UsageError, match="expected max or split"):
        probe(run, TASK, select="best")
    with pytest.raises(UsageError, match="expected two sampling units or more, found 1; use max"):
        probe(run, TASK, select="split", limit=1)
    with pytest.raises(UsageError, match="device"):
        probe(run, TASK, device="gpu")
    moved = Run(run.store, replace(run.config, dataset_path="/nowhere"))
    with pytest.raises(KvtoolError, match="give the folder with --data"):
        probe(moved, TASK, fresh=True)


@pytest.mark.slow
def test_a_store_that_cannot_be_written_costs_no_result(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise StoreError("result abc: cannot be written: Read-only file system")

    stored = probe(run, TASK)
    monkeypatch.setattr(Store, "save_result", closed)
    with messages(logging.WARNING) as lines:
        assert probe(run, TASK, fresh=True).rows == stored.rows
    assert lines == [
        "result abc: cannot be written: Read-only file system; the result is given all the same"
    ]


@pytest.mark.slow
def test_memory_is_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two images a layer holds no more than those, and the numbers stay the same."""
    full = probe(run, TASK)
    one_image = 2 * GRID[0] * GRID[1] * DIM * 2
    monkeypatch.setattr(layers, "HELD_BYTES", 2 * one_image)
    assert probe(run, TASK, fresh=True).rows == full.rows
    layer = layers.Layer(run, "value", 5, [0, 1], torch.device("cpu"))
    for _ in range(2):
        assert {image.id for image in layer.each(run.ids)} == set(run.ids)
        assert layer.held_bytes == 2 * one_image
    # A second reader within the first one's loop holds nothing twice.
    monkeypatch.setattr(layers, "HELD_BYTES", 2**30)
    layer = layers.Layer(run, "value", 5, [0, 1], torch.device("cpu"))
    for image in layer.each(run.ids):
        layer.get([image.id, run.ids[-1]])
    assert layer.held_bytes == len(run.ids) * one_image


def test_an_image_in_memory_goes_to_the_device_once(run: Run) -> None:
    layer = layers.Layer(run, "value", 5, [0, 1], torch.device("cpu"))
    images = layer.get(run.ids)
    for image, again in zip(images.values(), layer.get(run.ids).values(), strict=True):
        assert image.stored.data_ptr() == again.stored.data_ptr()
        assert image.values is not again.values  # float32 is not held

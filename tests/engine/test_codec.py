"""`--codec auto`: what limits decides once a run, and no second run comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.engine import codec, worker
from kvtool.engine.codec import Costs
from kvtool.engine.match import open_extraction
from kvtool.engine.plan import Job, Plan, make_plan
from kvtool.models import load_model
from kvtool.store import open_store
from kvtool.store.encoding import Codec
from tests.support.tiny import noise

GPU = Costs(device=1.0, encoder=0.2, disk=0.9, ratio=0.8, shares_cores=False)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        (GPU, "lz4"),  # both take as long as the model
        (replace(GPU, disk=1.5), "lz4"),  # the disk: fewer bytes are sooner there
        (replace(GPU, encoder=2.0), "none"),  # the encoder
        (replace(GPU, encoder=2.0, disk=3.0), "lz4"),  # the disk, more than the encoder
        (replace(GPU, encoder=1.04), "lz4"),  # too little to gain
        (replace(GPU, shares_cores=True), "none"),  # encoding takes its time from the model
        (replace(GPU, shares_cores=True, disk=2.0), "lz4"),
    ],
)
def test_the_codec_of_the_shorter_extraction(costs: Costs, expected: Codec) -> None:
    assert costs.codec == expected


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[Codec]:
    """Codecs that are measured, one after the other."""
    choices: list[Codec] = ["none", "lz4", "lz4"]
    monkeypatch.setattr(worker, "choose_codec", lambda *_: choices.pop(0))
    return choices


@pytest.mark.slow
def test_a_run_goes_on_with_its_codec(tmp_path: Path, model: str, choices: list[Codec]) -> None:
    store, images = tmp_path / "s.kv", [noise(64, 48, n) for n in range(4)]
    settings: dict[str, Any] = {"model": model, "check": False, "kinds": ("value",)}
    kvtool.extract(store, dataset=images, limit=2, codec="auto", **settings)
    report = kvtool.extract(store, dataset=images, codec="auto", **settings)
    (run,) = kvtool.open(store).runs()
    assert (report.n_done, report.run) == (2, run)
    assert kvtool.open(store).run(run).config.codec == "none"
    assert len(choices) == 2, "measured once"
    # Who names the run's codec goes on with it, too.
    assert kvtool.extract(store, dataset=images, codec="none", **settings).run == run


def plan_of(store: Path, model: str, images: Path, **options: Any) -> Plan:
    job = Job(str(store), model, f"folder:{images}", kinds=("value",), **options)
    return make_plan(open_extraction(job), load_model(model, weights=False), None, None)


@pytest.mark.slow
def test_workers_that_measure_otherwise_share_a_run(tmp_path: Path, model: str, few: Path) -> None:
    store = open_store(tmp_path / "s.kv", create=True)
    first, second = (plan_of(tmp_path / "s.kv", model, few, codec="auto") for _ in range(2))
    run = first.open_run(store, lambda: "none")
    assert second.open_run(store, lambda: "lz4").name == run.name
    assert first.open_run(store).config.codec == "none"
    compressed = plan_of(tmp_path / "s.kv", model, few, codec="lz4")
    assert compressed.open_run(store).name != run.name


@pytest.mark.slow
def test_what_is_measured_is_of_the_first_pictures(
    tmp_path: Path, model: str, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[Costs] = []

    def watch(*values: Any) -> Costs:
        costs.append(Costs(*values))
        return costs[-1]

    monkeypatch.setattr(codec, "Costs", watch)
    store = open_store(tmp_path / "s.kv", create=True)
    plan = plan_of(tmp_path / "s.kv", model, few)
    assert codec.choose_codec(plan, load_model(model), store.path) in ("lz4", "none")
    assert costs[0].shares_cores
    assert min(costs[0].device, costs[0].encoder, costs[0].disk) > 0
    assert 0.1 < costs[0].ratio < 10
    assert not list(store.path.rglob("measured")), "nothing is left behind"


@pytest.mark.slow
def test_where_no_picture_can_be_read_it_is_lz4(tmp_path: Path, model: str, few: Path) -> None:
    plan = plan_of(tmp_path / "s.kv", model, few)
    for path in few.iterdir():
        path.write_bytes(b"no picture")
    assert codec.choose_codec(plan, load_model(model), tmp_path) == "lz4"

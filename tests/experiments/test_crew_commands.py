"""intervene, average and surface with two workers: what one worker gives, and nothing twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import kvtool
from kvtool.store.verify import verify
from tests.experiments.workers import Worker, counts
from tests.support.planted import NOISY, planted_model, planted_pope
from tests.support.scenes import World
from tests.support.tasks.runs import RUNS

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def two_workers(stores: Path, what: str, command: str, *options: object) -> list[int]:
    """Run a command over the stores of a folder, once with a worker and once with two; returns how
    much each call of the one computed.
    """
    logs, outputs = [], []
    for name, devices in (("lone", "cpu"), ("crew", "cpu,cpu")):
        folder = shutil.copytree(stores, stores.parent / name)
        arguments = (*sorted(folder.iterdir()), *options, "--format", "json")
        log = stores.parent / f"{name}-log"
        worker = Worker(log, what, command, *arguments, "--devices", devices)
        code, out, err = worker.end()
        assert code == 0, err
        outputs.append(out)
        logs.append(sorted(counts(log)))
        assert all(verify(kvtool.open(path)) == [] for path in folder.iterdir())
    assert outputs[0] == outputs[1]
    assert logs[0] == logs[1]
    return logs[0]


def test_intervene(tmp_path: Path) -> None:
    model, pope = planted_model(tmp_path / "model"), planted_pope(tmp_path / "pope", 3)
    dataset = f"pope:{pope}"
    kvtool.extract(tmp_path / "stores/s.kv", model=str(model), dataset=dataset)
    heads = ",".join(f"{layer}:{head}" for layer, head in sorted(NOISY))
    options = ("--benchmark", dataset, "--heads", heads, "--method", "scale:0.5")
    assert len(two_workers(tmp_path / "stores", "answers", "intervene", *options)) >= 3


def test_average(tmp_path: Path) -> None:
    tasks = ("referring-expression", "semantic-correspondence")
    for task in tasks:
        run = RUNS[task](tmp_path / task)
        shutil.copytree(run.store, tmp_path / f"stores/{task}.kv")
    assert two_workers(tmp_path / "stores", "probes", "average") == [1, 1]


def test_surface(tmp_path: Path, tiny_model: Path, embedded_world: World) -> None:
    data = f"blink:{embedded_world('blink') / 'blink/Art_Style@val'}"
    kvtool.extract(tmp_path / "stores/s.kv", model=str(tiny_model), dataset=data)
    options = ("art-style", "--max-new-tokens", 1, "--layers", 1)
    assert sum(two_workers(tmp_path / "stores", "several", "surface", *options)) > 0

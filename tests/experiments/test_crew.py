"""Several workers at one command: nothing is computed twice, and the result is one worker's."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import kvtool
from kvtool.engine import processes
from kvtool.engine.crew import Advanced, Begun, Call, CallersCrew, Done, Rest, chosen_devices
from kvtool.engine.crew_progress import CrewProgress
from kvtool.engine.ray import RayTask
from kvtool.engine.travel import received, sent, store_folders, variables_for
from kvtool.engine.workers import Hands
from kvtool.errors import DatasetError, UsageError
from kvtool.store.verify import verify
from tests.experiments.workers import Worker, counts
from tests.support.planted import NOISY, planted_model, planted_pope
from tests.support.shell import Shell

N_IMAGES, N_ANSWERS = 4, 4 * 6 * 2
"""Six questions an image, with no head blocked and with the chosen ones, all of which are late."""
HEADS = ",".join(f"{layer}:{head}" for layer, head in sorted(NOISY))
TWO = ("--devices", "cpu,cpu")


@pytest.fixture(scope="module")
def pope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_pope(tmp_path_factory.mktemp("benchmarks") / "pope", N_IMAGES)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory, pope: Path) -> Path:
    """A store of which nothing was asked, beside its model."""
    folder = tmp_path_factory.mktemp("extracted")
    model, store = planted_model(folder / "model"), folder / "s.kv"
    kvtool.extract(store, model=str(model), dataset=f"pope:{pope}", kinds=("key", "value"))
    return folder / "s.kv"


@pytest.fixture
def store(tmp_path: Path, extracted: Path) -> Path:
    return shutil.copytree(extracted, tmp_path / "s.kv")


def knockout(store: Path, pope: Path, *options: object) -> tuple[object, ...]:
    benchmark = ("--benchmark", f"pope:{pope}", "--heads", HEADS, "--max-new-tokens", 1)
    return ("knockout", store, *benchmark, "--format", "json", *options)


def call(store: Path, pope: Path, **options: Any) -> kvtool.Result:
    heads = sorted(NOISY)
    return kvtool.knockout(store, f"pope:{pope}", heads, max_new_tokens=1, **options)


@pytest.mark.slow
def test_two_workers_ask_nothing_twice(tmp_path: Path, store: Path, pope: Path) -> None:
    lone = shutil.copytree(store, tmp_path / "lone.kv")
    code, expected, _ = Worker(tmp_path / "lone", "answers", *knockout(lone, pope)).end()
    assert code == 0
    log, command = tmp_path / "log", knockout(store, pope, *TWO)
    code, out, err = Worker(log, "answers", *command).end()
    assert (code, out) == (0, expected), err
    assert counts(log) == [N_ANSWERS // N_IMAGES] * N_IMAGES
    assert kvtool.open(store).run().holders() == {}
    assert verify(kvtool.open(store)) == []
    # What is kept starts no worker.
    assert Worker(log, "answers", *command).end()[:2] == (0, expected)
    assert len(counts(log)) == N_IMAGES


@pytest.mark.slow
@pytest.mark.alone
def test_pictures_in_other_hands_are_waited_for_and_named(
    tmp_path: Path, store: Path, pope: Path
) -> None:
    """Both by who waits a moment and by who waits until it is stopped."""
    outsider = Worker(tmp_path / "log", "answers", *knockout(store, pope), stop_at=2).holding()
    code, out, err = Worker(tmp_path / "log", "answers", *knockout(store, pope, *TWO)).end()
    assert (code, out) == (0, ""), "the crew did its share"
    assert f"1 of {N_IMAGES} images are held by others" in err.splitlines()[-1]
    assert f"process {outsider.process.pid} on " in err
    patient = Worker(tmp_path / "log", "answers", *knockout(store, pope, *TWO, "--wait", 60))
    time.sleep(2)
    os.kill(patient.process.pid, signal.SIGINT)
    assert patient.end()[0] == 130
    assert len(kvtool.open(store).run().holders()) == 1, "that of the outsider"
    assert outsider.end()[0] == 0
    assert len(counts(tmp_path / "log")) == N_IMAGES


@pytest.mark.slow
def test_a_probe_is_shared_by_layers(tmp_path: Path) -> None:
    store = tmp_path / "s.kv"
    kvtool.extract(store, model="demo", dataset="scenes@spair71k", limit=4)
    lone = shutil.copytree(store, tmp_path / "lone.kv")
    command = ("semantic-correspondence", "--format", "json")
    code, expected, _ = Worker(tmp_path / "lone", "probes", "probe", lone, *command).end()
    assert (code, counts(tmp_path / "lone")) == (0, [1])
    log = tmp_path / "log"
    code, out, err = Worker(log, "layers", "probe", store, *command, *TWO).end()
    assert (code, out) == (0, expected), err
    n_layers = len({(row["kind"], row["layer"]) for row in kvtool.probe(lone, command[0]).rows})
    assert counts(log) == [1] * n_layers
    # What was kept of layers goes once the whole is kept.
    assert len(list(kvtool.open(store).results())) == len(list(kvtool.open(lone).results()))
    assert verify(kvtool.open(store)) == []


@pytest.mark.slow
def test_the_workers_of_one_task_go_on_with_the_next(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s.kv"
    for dataset in ("scenes@spair71k", "scenes@msrc"):
        kvtool.extract(store, model="demo", dataset=dataset, limit=4)
    lone = shutil.copytree(store, tmp_path / "lone.kv")
    command = ("all", "--run", "all", "--layers", 1, "--format", "json")
    code, expected, _ = shell("probe", lone, *command, "--devices", "cpu")
    assert code == 0
    calls: list[tuple[str, ...]] = []
    begin = processes.Processes.__init__

    def counted(self: processes.Processes, devices: tuple[str, ...]) -> None:
        calls.append(devices)
        begin(self, devices)

    monkeypatch.setattr(processes.Processes, "__init__", counted)
    assert shell("probe", store, *command, *TWO)[:2] == (0, expected)
    assert calls == [("cpu", "cpu")]


@pytest.mark.slow
def test_a_worker_killed_while_it_scores_loses_its_layer_alone(tmp_path: Path) -> None:
    """And the layers before, which it kept, serve the next call."""
    store = tmp_path / "s.kv"
    kvtool.extract(store, model="demo", dataset="scenes@spair71k", limit=4)
    command = ("probe", store, "semantic-correspondence", "--format", "json")
    first = Worker(tmp_path / "log", "layers", *command, stop_at=3).holding()
    first.kill()
    assert Worker(tmp_path / "log", "layers", *command).end()[0] == 0
    n_layers = len({(row["kind"], row["layer"]) for row in kvtool.probe(store, command[2]).rows})
    assert len(counts(tmp_path / "log")) == n_layers + 1


@pytest.mark.slow
def test_a_worker_of_a_crew_that_is_killed_leaves_its_work_to_the_other(
    tmp_path: Path, store: Path, pope: Path
) -> None:
    log, command = tmp_path / "log", knockout(store, pope, *TWO)
    # Both workers stop at their second picture; one is killed there.
    crew = Worker(log, "answers", *command, stop_at=2).holding()
    victim = psutil.Process(crew.process.pid).children()[0]
    victim.kill()
    code, out, err = crew.end()
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["n"] == N_ANSWERS // 2
    assert f"worker process {victim.pid} on cpu: expected it to finish, found it dead" in err
    assert kvtool.open(store).run().holders() == {}
    assert verify(kvtool.open(store)) == []


@pytest.mark.slow
def test_an_error_of_a_worker_is_the_callers(tmp_path: Path, store: Path, pope: Path) -> None:
    code, out, err = Worker(
        tmp_path / "log", "answers", *knockout(store, pope, *TWO, "--model", tmp_path / "none")
    ).end()
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "none" in err
    with pytest.raises(UsageError, match="cuda:77"):
        call(store, pope, devices=("cpu", "cuda:77"))


@pytest.mark.slow
def test_a_call_travels_as_plain_data(store: Path, pope: Path) -> None:
    """What a worker process, or a task of Ray, gets and does; here in this process."""
    run = kvtool.open(store).run()
    arguments = {"target": run, "benchmark": f"pope:{pope}", "heads": sorted(NOISY), "limit": 1}
    function = "kvtool.experiments.knockout.run", "knockout"
    travelling = pickle.loads(pickle.dumps(Call(*function, sent(arguments))))
    told: list[Any] = []
    travelling.work("cpu", told.append)
    assert (told[0], told[-1]) == (Begun(), Rest(True))
    assert [message.n for message in told if isinstance(message, Advanced)] == [0, 1]
    (done,) = (message for message in told if isinstance(message, Done))
    assert done.name.startswith("answers-000-")
    # A worker that finds all done has nothing to tell but its advance.
    told.clear()
    travelling.work("cpu", told.append)
    assert not [message for message in told if isinstance(message, Done)]


@pytest.mark.slow
def test_open_stores_travel_by_name(store: Path) -> None:
    opened = kvtool.open(store)
    run = opened.run()
    travelling = sent({"stores": [opened, run, str(store)], "heads": ((0, 1),)})
    assert store_folders(travelling) == {str(store)}
    first, second, third = received(pickle.loads(pickle.dumps(travelling)))["stores"]
    assert (first.path, second.name, third) == (store, run.name, str(store))


def test_credentials_travel_where_a_store_is_on_an_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("KVTOOL_CACHE", "AWS_REGION", "AZURE_STORAGE_ACCOUNT_KEY")
    for name in names:
        monkeypatch.setenv(name, str(tmp_path))
    services = {
        (str(tmp_path / "s.kv"),): {"KVTOOL_CACHE"},
        ("s3://bucket/s.kv", str(tmp_path / "s.kv")): {"KVTOOL_CACHE", "AWS_REGION"},
        ("az://bucket/s.kv",): {"KVTOOL_CACHE", "AZURE_STORAGE_ACCOUNT_KEY"},
    }
    for stores, expected in services.items():
        assert variables_for(stores).keys() & {*names} == expected
    task = RayTask(lambda *_: None, "cpu", 0, None, "", variables_for(["s3://bucket/s.kv"]))
    assert "AWS_REGION" not in repr(task)


def test_a_crew_is_over_where_all_that_live_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvtool.engine.crew.LEAST_IDLE_S", 0.0)
    progress = CrewProgress(lambda *_: None)
    crew = CallersCrew(Call("", "", {}), Hands(("cpu", "cpu", "cpu")), 0.0, progress)
    crew._hear(0, Rest(True))
    crew._hear(2, Rest(True))
    crew._idle_since_s -= 1.0
    assert not crew._is_over({0, 1, 2}), "one is at work"
    assert crew._is_over({0, 2}), "it died"
    crew._hear(0, Begun())
    assert not crew._is_over({0, 2}), "it begins anew"


def test_what_several_workers_count_is_counted_once() -> None:
    told: list[tuple[int, str, int | None]] = []
    progress = CrewProgress(lambda n, note="", total=None: told.append((n, note, total)))
    progress.caller(0, "", 3)
    for worker, note in ((0, "a"), (1, "b"), (1, "a"), (0, "b"), (0, "a")):
        progress.advance(worker, 1, note, None)
    progress.advance(1, 0, "loading", 3)
    progress.caller(1, "a")
    # The second "a" of a worker is another piece, as in a second pass.
    assert told == [(0, "", 3), (1, "a", None), (1, "b", None), (1, "a", None)]
    # An attempt after a lost node goes over what the one before counted.
    progress.begin(0)
    for note in ("a", "b", "a", "c"):
        progress.advance(0, 1, note, None)
    assert told[4:] == [(1, "c", None)]


@pytest.mark.slow
def test_devices_are_named_in_one_way(store: Path, pope: Path) -> None:
    assert chosen_devices("cpu,cpu", "auto") == ("cpu", "cpu")
    assert chosen_devices(("cuda:0+cpu", "cuda:1"), "auto") == ("cuda:0+cpu", "cuda:1")
    assert chosen_devices(None, "cpu") == ("cpu",)
    with pytest.raises(UsageError, match="found both"):
        call(store, pope, device="cpu", devices=("cpu",))
    with pytest.raises(UsageError, match="fresh: expected one device"):
        call(store, pope, devices=("cpu", "cpu"), fresh=True)
    with pytest.raises(UsageError, match="expected local or ray, found 'slurm'"):
        call(store, pope, engine="slurm")
    with pytest.raises(UsageError, match="cpus_per_worker"):
        call(store, pope, cpus_per_worker=0)
    with pytest.raises(UsageError, match="cpus_per_worker: expected it beside the engine ray"):
        call(store, pope, cpus_per_worker=2)


def test_a_request_that_is_wrong_starts_no_worker(
    store: Path, pope: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvtool.engine.crew.run_workers", pytest.fail)
    with pytest.raises(UsageError, match="heads"):
        kvtool.knockout(store, f"pope:{pope}", [(99, 0)], devices=("cpu", "cpu"))
    with pytest.raises(DatasetError):
        kvtool.knockout(store, "pope:nowhere", HEADS, devices=("cpu", "cpu"))

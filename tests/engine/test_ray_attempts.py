"""What is known of the tasks of a Ray cluster, without one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvtool.engine import ray
from kvtool.engine.ray import Attempts, RayTask, Started, every_device
from kvtool.engine.workers import Hands, check_engine, run_workers
from kvtool.errors import KvtoolError, UsageError
from kvtool.models.device_names import numbered
from kvtool.store.owners import this_process
from tests.support.runs import new_run


def test_what_a_lost_node_claimed_is_released_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Of the processes of other nodes nothing is, and nothing twice; a new attempt is told."""
    lost: list[set[str]] = []
    attempts = Attempts(lost.append)
    attempts.start(0, Started("first", "a"), {"a", "b"})
    attempts.start(1, Started("second", "b"), {"a", "b"})
    attempts.look({"a", "b"})
    assert lost == []
    attempts.look({"b"})
    attempts.look({"b"})
    assert lost == [{"first"}]
    # Ray begins its task again elsewhere.
    assert caplog.messages == []
    attempts.start(0, Started("third", "b"), {"b"})
    assert lost == [{"first"}]
    (line,) = caplog.messages
    assert line == "worker 0 of the Ray cluster: its process is gone; it begins again"


def test_what_ray_prints_is_no_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray's own threads write to whatever standard output is while the tasks run."""
    monkeypatch.setattr(
        "kvtool.engine.ray.run_ray", lambda *_, **__: print("(raylet) A worker died")
    )
    run_workers(Hands(("cpu",), "ray"), lambda *_: None, lambda *_: None, [])
    print("a row")
    assert capsys.readouterr() == ("a row\n", "(raylet) A worker died\n")


class Cluster:
    """A cluster of one task, and its queue, as run_ray uses them: a node joins just before the
    task tells that it began there, and the task ends at the second look.
    """

    def __init__(self) -> None:
        self.node_ids = ["first"]
        self.n_looks = 0

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "NodeID": node} for node in self.node_ids]

    def wait(self, tasks: list[str], **_: Any) -> tuple[list[str], list[str]]:
        self.n_looks += 1
        return ([], tasks) if self.n_looks == 1 else (tasks, [])

    def get(self, tasks: list[str]) -> list[None]:
        return [None for _ in tasks]

    def qsize(self) -> int:
        return 1

    def get_nowait_batch(self, _: int) -> list[tuple[int, Started]]:
        if "second" in self.node_ids:
            return []
        self.node_ids.append("second")
        return [(0, Started("process", "second"))]

    def shutdown(self, force: bool) -> None:
        assert force


def test_an_attempt_on_a_node_that_has_just_joined_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster()
    monkeypatch.setattr(ray, "joined_cluster", lambda: cluster)
    monkeypatch.setattr(ray, "_queue", lambda _: cluster)
    monkeypatch.setattr(ray, "_submitted", lambda *_: ["task"])
    lost: list[set[str]] = []
    ray.run_ray(
        *(lambda *_: None, ("cpu",), lambda *_: None, lambda _: False, lost.append), variables={}
    )
    assert cluster.n_looks >= 2
    assert lost == []


def test_a_task_that_ends_its_process_time_after_time_is_an_error() -> None:
    lost: list[set[str]] = []
    attempts = Attempts(lost.append)
    for number in range(3):
        attempts.start(0, Started(f"process-{number}", "a"), {"a"})
    assert lost == [{"process-0"}, {"process-1"}]
    with pytest.raises(KvtoolError, match="dead 3 times on nodes that live"):
        attempts.start(0, Started("process-3", "a"), {"a"})


def test_loss_of_nodes_is_no_error_however_often() -> None:
    attempts = Attempts(lambda _: None)
    for number in range(9):
        attempts.start(0, Started(f"process-{number}", f"node-{number}"), {f"node-{number}"})


def test_claims_of_processes_that_are_gone_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another host: nobody here can see whether they live, and the heartbeat says so late."""
    run = new_run(tmp_path / "s.kv")
    ours = this_process()
    elsewhere = replace(ours, host="elsewhere", boot="0123456789ab", token="01234567")
    monkeypatch.setattr("kvtool.store.locks.this_process", lambda: elsewhere)
    claims = [run.claim("answers-1"), run.claim("answers-2")]
    for claim in claims:
        claim.__enter__()
    monkeypatch.setattr("kvtool.store.locks.this_process", lambda: ours)
    with run.claim("answers-3"):
        assert set(run.holders()) == {"answers-1", "answers-2", "answers-3"}

        def lose(*arguments: Any, **_: Any) -> None:
            """Tell of the loss, by the last argument, as Ray does."""
            arguments[-1]({elsewhere.tag})

        monkeypatch.setattr("kvtool.engine.ray.run_ray", lose)
        run_workers(Hands(("cpu",), "ray"), lambda *_: None, lambda *_: None, [str(run.store)])
        assert set(run.holders()) == {"answers-3"}, "those of the living stay"


def test_a_task_sees_the_gpus_that_ray_gave_it() -> None:
    assert numbered("cuda:3") == ("cuda:0", 1)
    assert numbered("cuda:2+cuda:3+cpu") == ("cuda:0+cuda:1+cpu", 2)
    assert numbered("cpu+disk:cuda") == ("cpu+disk:cuda", 0)


class Nodes:
    """What ray.nodes() says of a cluster."""

    def __init__(self, *resources: dict[str, float], alive: bool = True) -> None:
        self.records = [{"Alive": alive, "Resources": node} for node in resources]

    def nodes(self) -> list[dict[str, Any]]:
        return self.records


def test_auto_is_every_gpu_else_every_slot() -> None:
    """A slot lies on one node: CPUs of two do not add up."""
    gpus = Nodes({"GPU": 2.0, "CPU": 16.0}, {"GPU": 1.0, "CPU": 8.0}, {"CPU": 64.0})
    assert every_device(gpus, 4) == ("cuda:0",) * 3
    assert every_device(Nodes({"CPU": 7.0}, {"CPU": 9.0}), 4) == ("cpu",) * 3
    for nodes in (Nodes({"CPU": 3.0}), Nodes({"CPU": 8.0}, alive=False)):
        with pytest.raises(UsageError, match="cpus_per_worker"):
            every_device(nodes, 4)


def test_a_task_works_where_its_caller_stood(tmp_path: Path) -> None:
    """In the same folder, where its node has it, with the caller's variables; here in place of
    Ray's worker process.
    """
    before = Path.cwd()
    task = RayTask(lambda *_: None, "cpu", 0, None, str(tmp_path), {"KVTOOL_TEST": "1"})
    try:
        task.enter()
        assert (Path.cwd(), os.environ["KVTOOL_TEST"]) == (tmp_path, "1")
        replace(task, folder=str(tmp_path / "none")).enter()
        assert Path.cwd() == tmp_path
    finally:
        os.chdir(before)
        del os.environ["KVTOOL_TEST"]


def test_engines_have_names() -> None:
    assert (check_engine("local"), check_engine("ray")) == ("local", "ray")
    with pytest.raises(UsageError, match="expected local or ray, found 'slurm'; the command line"):
        check_engine("slurm")

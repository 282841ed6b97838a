"""A store that changes while it is served: what is new is seen, what is gone is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import kvtool
from kvtool.store import Run, open_store
from kvtool.viewer.serve import served_runs
from kvtool.viewer.server import ViewerServer
from kvtool.viewer.viewer import Viewer, runs_by_name
from tests.support.tasks import semantic_correspondence as spair

BASE = "/token/get/"
BLOCK = {"kind": "value", "layer": "1", "kv_head": "0", "token": "0", "box": "0,0,8,8"}
IMAGE_RESOURCES = ("image", "block", "maps", "nearest", "picture", "piece", "features")
RESOURCES = ("run", "scores", "pairs", "videos", *IMAGE_RESOURCES)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return spair.make_run(tmp_path, "changing.kv")


@pytest.fixture
def client(run: Run) -> TestClient:
    def look() -> dict[tuple[str, str], Run]:
        return runs_by_name(served_runs(run.store))

    server = ViewerServer(Viewer(look(), look=look), "token")
    return TestClient(server, base_url="http://127.0.0.1:8765")


def names_of(client: TestClient) -> list[str]:
    return [entry["run"] for entry in client.get(f"{BASE}catalog").json()["runs"]]


@pytest.mark.slow
def test_a_new_run_is_listed_and_one_that_is_gone_is_not(client: TestClient, run: Run) -> None:
    store = open_store(run.store)
    folder = Path(run.store) / "runs" / run.name
    assert names_of(client) == [run.name]
    spair.make_run(Path(run.store).parent / "second", "other.kv", kinds=("key", "value"))
    second = kvtool.open(Path(run.store).parent / "second" / "other.kv").run()
    shutil.copytree(Path(second.store) / "runs" / second.name, folder.with_name(second.name))
    assert names_of(client) == sorted([run.name, second.name])
    scope = {"store": "changing.kv", "run": second.name, "image": second.ids[0]}
    assert client.get(f"{BASE}block", params={**scope, **BLOCK}).status_code == 200
    shutil.rmtree(folder.with_name(second.name))
    assert names_of(client) == [run.name]
    response = client.get(f"{BASE}block", params={**scope, **BLOCK})
    assert response.status_code == 404
    assert store.runs() == [run.name]


@pytest.mark.sampled
@pytest.mark.parametrize("is_read", [False, True])
def test_of_a_run_that_is_gone_errors_are_one_line(
    client: TestClient, run: Run, is_read: bool
) -> None:
    scope = {"store": "changing.kv", "run": run.name, "image": run.ids[0], **BLOCK}
    for resource in RESOURCES if is_read else ():
        assert client.get(BASE + resource, params=scope).status_code == 200, resource
    shutil.rmtree(Path(run.store) / "runs" / run.name)
    unread = {**scope, "layer": "2"}
    for resource in RESOURCES:
        response = client.get(BASE + resource, params=unread)
        body = response.json()
        # What was read before may still be answered; nothing fails without a line.
        if response.status_code != 200:
            assert "\n" not in body["error"], resource
    assert client.get(f"{BASE}block", params=unread).status_code in (404, 500)
    assert client.get(f"{BASE}catalog").json()["error"].startswith("serve: expected a run")


@pytest.mark.slow
def test_probes_that_are_added_are_seen(client: TestClient, run: Run) -> None:
    scope = {"store": "changing.kv", "run": run.name}
    assert client.get(f"{BASE}scores", params=scope).json() == {"scores": []}
    kvtool.probe(run, spair.TASK)
    client.get(f"{BASE}run", params=scope)
    (probe,) = client.get(f"{BASE}scores", params=scope).json()["scores"]
    assert probe["task"] == spair.TASK

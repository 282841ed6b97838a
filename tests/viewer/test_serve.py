"""kvtool.serve and `kvtool serve`: a server that runs, and errors in one line."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.errors import KvtoolError, UsageError
from kvtool.store import Run, open_store
from kvtool.viewer.serve import RunningViewer
from tests.support.shell import Shell


def fetched(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=10) as response:
        return response.read()


@pytest.mark.slow
def test_it_serves_until_it_is_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    served = kvtool.serve(run.store, state="view=heads", open_browser=True)
    base = served.address.removesuffix("#view=heads")
    assert opened == [served.address]
    assert base.startswith("http://127.0.0.1:")
    assert len(base.split("/")[3]) >= 24
    assert json.loads(fetched(f"{base}get/catalog"))["runs"][0]["run"] == run.name
    assert "1: " in repr(served)
    second = kvtool.serve(run.store)
    assert second.address.split("/")[3] != base.split("/")[3]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetched(f"{base.rsplit('/', 2)[0]}/get/catalog")
    for viewer in (served, second):
        viewer.stop()
        assert not viewer.thread.is_alive()
    with pytest.raises(urllib.error.URLError):
        fetched(base)


@pytest.mark.slow
def test_it_listens_on_this_machine_alone(run: Run) -> None:
    served = kvtool.serve(run.store)
    (listener,) = served.server.servers[0].sockets
    assert listener.getsockname()[0] == "127.0.0.1"
    served.stop()


@pytest.fixture
def busy_port() -> Any:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    yield listener.getsockname()[1]
    listener.close()


@pytest.mark.slow
def test_a_port_that_is_taken(run: Run, busy_port: int, shell: Shell) -> None:
    exit_code, out, lines = shell("serve", str(run.store), "--port", str(busy_port))
    assert exit_code == 2
    assert out == ""
    (line,) = lines
    assert f"found {busy_port} (" in line
    assert "leave it out" in line


def test_without_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "kvtool.viewer.serve.find_spec",
        lambda name: None if name == "uvicorn" else find_spec(name),
    )
    with pytest.raises(KvtoolError, match=r"found no uvicorn: pip install 'kvtool\[serve\]'$"):
        kvtool.serve(run.store)


def test_without_runs(tmp_path: Path) -> None:
    store = open_store(tmp_path / "empty.kv", create=True)
    with pytest.raises(UsageError, match=r"expected a run or more, found none in .*empty\.kv"):
        kvtool.serve(store)


@pytest.mark.slow
def test_the_command_prints_the_address(
    run: Run, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunningViewer, "wait", RunningViewer.stop)
    exit_code, out, lines = shell("serve", str(run.store), "--state", "#view=pair")
    assert exit_code == 0
    assert out.startswith("http://127.0.0.1:")
    assert out.endswith("/#view=pair\n")
    assert lines == ["runs: 1; Ctrl-C ends the viewer"]


@pytest.mark.slow
def test_ctrl_c_ends_the_command(run: Run) -> None:
    command = [sys.executable, "-m", "kvtool", "serve", str(run.store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert fetched(address)
    os.kill(process.pid, signal.SIGINT)
    out, notes = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in notes

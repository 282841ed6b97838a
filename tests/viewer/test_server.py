"""Who may ask the server, and what a browser may do with its answers."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from kvtool.viewer.page import page_files
from kvtool.viewer.server import HEADERS, ViewerServer
from kvtool.viewer.viewer import Viewer
from kvtool.web.modules import MODULES, REPORT_MODULES, sources

TOKEN = "a-secret-token"
BASE = f"/{TOKEN}/"


@pytest.fixture
def client(viewer: Viewer) -> TestClient:
    return TestClient(ViewerServer(viewer, TOKEN), base_url="http://127.0.0.1:8765")


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["/", "/get/catalog", "/wrong/", "/wrong/get/catalog", "/a-secret-toke/", f"//{TOKEN}/"]
)
def test_nothing_is_answered_without_the_token(client: TestClient, path: str) -> None:
    response = client.get(f"http://127.0.0.1:8765{path}")
    assert response.status_code == 403
    assert TOKEN not in response.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8765", "", "[::1]:8765"])
def test_another_host_is_refused(client: TestClient, host: str) -> None:
    response = client.get(f"{BASE}get/catalog", headers={"Host": host})
    assert response.status_code == 421
    assert "runs" not in response.json()


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "localhost"])
def test_this_machine_by_its_names_is_answered(client: TestClient, host: str) -> None:
    """Whatever the port: ssh -L may have another one at the near end."""
    assert client.get(f"{BASE}get/catalog", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    assert client.request(method, f"{BASE}get/catalog").status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "../pyproject.toml",
        "..%2f..%2fviewer.py",
        "%2e%2e/viewer.py",
        "get/../../etc/passwd",
        "viewer.py",
        "static/viewer.js",
        "/etc/passwd",
        "viewer.js%00",
        "viewer.js/",
    ],
)
def test_no_path_is_followed(client: TestClient, path: str) -> None:
    response = client.get(BASE + path)
    assert response.status_code in (403, 404)
    assert "error" in response.json()


def test_every_answer_has_the_policy(client: TestClient) -> None:
    paths = [BASE, f"{BASE}viewer.js", f"{BASE}get/catalog", "/", f"{BASE}no"]
    for path in paths:
        headers = client.get(path).headers
        for name, value in HEADERS.items():
            assert headers[name] == value, path
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy


def test_the_page_has_no_inline_script_or_style() -> None:
    page = sources()["index.html"]
    assert "<style" not in page
    assert " style=" not in page
    assert (
        page.count("<script") == page.count('<script type="module" src="viewer.js"></script>') == 1
    )


def test_the_files_of_the_page_have_their_types(client: TestClient) -> None:
    types = {"": "text/html", "viewer.js": "text/javascript", "viewer.css": "text/css"}
    for name, media_type in types.items():
        response = client.get(BASE + name)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(media_type)
    assert set(page_files()) == {"index.html", "viewer.js", "viewer.css", "icon.svg"}
    modules = {name for name in sources() if name.endswith(".js")}
    assert modules == {*MODULES, *REPORT_MODULES, "start.js", "notebook.js"}


def test_what_the_browser_has_is_not_sent_again(client: TestClient, scope: dict[str, str]) -> None:
    version = client.get(f"{BASE}get/image", params=scope).json()["version"]
    parameters = {**scope, "kind": "value", "layer": 1, "kv_head": 0, "version": version}
    first = client.get(f"{BASE}get/block", params=parameters)
    assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert first.headers["x-kvtool-dtype"] == "bfloat16"
    tag = first.headers["etag"]
    again = client.get(f"{BASE}get/block", params=parameters, headers={"If-None-Match": tag})
    assert again.status_code == 304
    assert again.content == b""
    changing = client.get(f"{BASE}get/catalog")
    assert "immutable" not in changing.headers["cache-control"]


def test_errors_are_one_line(client: TestClient, scope: dict[str, str]) -> None:
    response = client.get(f"{BASE}get/block", params={**scope, "kind": "value", "layer": 99})
    assert response.status_code == 404
    assert "layer 99" in response.json()["error"]
    assert response.headers["cache-control"] == "no-store"


def test_web_sockets_are_refused(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(BASE):
        pass

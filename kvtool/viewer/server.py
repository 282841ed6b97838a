"""The viewer's server: what a browser may ask of it, and what it may do with the answers.

It listens on this machine alone. Every address begins with a secret token; the Host must name this
machine, so that no page of another site reaches it by a name of its own; only GET and HEAD are
answered; and the policy of every answer lets the page run the package's own scripts alone, and load
from nowhere else.
"""

from __future__ import annotations

import json
from secrets import compare_digest
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from kvtool.errors import KvtoolError, UsageError
from kvtool.viewer.page import page_files
from kvtool.viewer.replies import JSON, Reply
from kvtool.viewer.viewer import Viewer

HOSTS = ("127.0.0.1", "localhost")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LASTING = "private, max-age=31536000, immutable"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class ViewerServer:
    """An ASGI application.

    Args:
        viewer: What answers.
        token: The first part of every address.
    """

    def __init__(self, viewer: Viewer, token: str) -> None:
        self.viewer = viewer
        self.token = token
        self.files = page_files()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request; web sockets and anything else that is no request are refused."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        response = await self.respond(Request(scope, receive))
        response.headers.update(HEADERS)
        await response(scope, receive, send)

    async def respond(self, request: Request) -> Response:
        """Return the answer to a request, whatever it is."""
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if host not in HOSTS:
            return _refused(421, "expected the Host 127.0.0.1 or localhost")
        if request.method not in ("GET", "HEAD"):
            return _refused(405, "expected GET: nothing can be changed here")
        token, _, name = request.url.path.removeprefix("/").partition("/")
        # In constant time, so that the token cannot be told apart character by character.
        if not compare_digest(token.encode(), self.token.encode()):
            return _refused(403, "expected the address that kvtool serve printed, with its token")
        # Files of the page come from memory; everything else is answered by the viewer.
        file = name or "index.html"
        if file in self.files:
            suffix = file[file.rindex(".") :]
            return self._reply(request, Reply(self.files[file], TYPES[suffix]))
        return await run_in_threadpool(self._answer, request, name.removeprefix("get/"))

    def _answer(self, request: Request, resource: str) -> Response:
        """Return what the viewer answers; its errors in one line."""
        try:
            reply = self.viewer.answer(resource, dict(request.query_params))
        except KvtoolError as error:
            return _refused(404 if isinstance(error, UsageError) else 500, str(error))
        return self._reply(request, reply)

    def _reply(self, request: Request, reply: Reply) -> Response:
        """Return an answer with its digest, or without its bytes where the browser has them."""
        tag = f'"{reply.tag}"'
        headers = {
            "ETag": tag,
            "Cache-Control": LASTING if reply.name else "no-cache, private",
            **{f"X-Kvtool-{name.title()}": value for name, value in reply.labels.items()},
        }
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(reply.body, headers=headers, media_type=reply.media_type)


def _refused(status: int, line: str) -> Response:
    """Return an error in one line of JSON."""
    body = json.dumps({"error": line}, ensure_ascii=False)
    return Response(body, status, {"Cache-Control": "no-store"}, JSON)

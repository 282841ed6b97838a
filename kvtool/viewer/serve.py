"""`kvtool serve`: the live viewer in a browser."""

from __future__ import annotations

import socket
import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from secrets import token_urlsafe
from threading import Thread
from typing import Any

from kvtool.bounds import checked
from kvtool.display import Displayed, Facts, listing
from kvtool.errors import KvtoolError, UsageError
from kvtool.store import Run, Store
from kvtool.store.select import StorePath, open_stores

ADDRESS = "127.0.0.1"
USUAL_PORT = 8765
TOKEN_BYTES = 18
NEEDED = ("starlette", "uvicorn")


@dataclass(repr=False)
class RunningViewer(Displayed):
    """A viewer that is running.

    Args:
        address: What to open in a browser; whoever has it can read the stores.
        runs: The names of the runs.
        server: uvicorn's server.
        thread: The thread in which it runs.
    """

    address: str
    runs: tuple[str, ...]
    server: Any
    thread: Thread

    def wait(self) -> None:
        """Return when the viewer has ended; Ctrl-C ends it."""
        try:
            while self.thread.is_alive():
                self.thread.join(0.2)
        finally:
            self.stop()

    def stop(self) -> None:
        """End the viewer."""
        self.server.should_exit = True
        self.server.force_exit = True
        self.thread.join(10)

    def _title(self) -> str:
        return f"Viewer {self.address}"

    def _facts(self) -> Facts:
        return {"runs": f"{len(self.runs)}: {listing(self.runs)}"}


@checked
def serve(
    stores: StorePath | Store | Sequence[StorePath | Store],
    *,
    model: str | None = None,
    data: Mapping[str, str | Path] | None = None,
    device: str = "auto",
    port: int | None = None,
    state: str = "",
    open_browser: bool = False,
    wait: bool = False,
) -> RunningViewer:
    """Show stores in a browser: whatever is under the pointer, in every layer and head.

    The viewer listens on this machine alone, reads, and writes nothing. Raises KvtoolError where
    starlette and uvicorn are not installed, UsageError for stores without a run and for a port
    that is taken.

    Args:
        stores: One store or several, by their paths or open.
        model: The runs' model, by its name or folder, which then answers questions; without it
            no model is ever loaded.
        data: The places of data sets, by name, if they moved.
        device: Where the model runs.
        port: The port; by default 8765, or any free one where that is taken.
        state: What the viewer shows first, e.g. "view=heads&run=NAME".
        open_browser: Whether a browser is opened.
        wait: Whether to return only when the viewer has ended, by Ctrl-C.
    """
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise KvtoolError(
            f"serve: expected the packages {' and '.join(NEEDED)}, found no "
            f"{' and no '.join(absent)}: pip install 'kvtool[serve]'"
        )
    from kvtool.viewer.questions import Questions
    from kvtool.viewer.viewer import Viewer, runs_by_name

    def look() -> Mapping[tuple[str, str], Run]:
        """Return the runs that the stores hold by now."""
        return runs_by_name(served_runs(stores))

    runs = look()
    viewer = Viewer(runs, dict(data or {}), Questions(model, device), look)
    listener = _listener(port)
    # A token in the address keeps other users of the machine out.
    token = token_urlsafe(TOKEN_BYTES)
    server, thread = _started(viewer, token, listener)
    fragment = f"#{state.removeprefix('#')}" if state else ""
    address = f"http://{ADDRESS}:{listener.getsockname()[1]}/{token}/{fragment}"
    served = RunningViewer(address, tuple(name for _, name in runs), server, thread)
    if open_browser:
        webbrowser.open(address)
    if wait:
        served.wait()
    return served


def served_runs(
    stores: StorePath | Store | Sequence[StorePath | Store],
) -> list[tuple[Path, Run]]:
    """Return the runs of some stores that can be read. Raises UsageError where there are none."""
    opened = open_stores(stores)
    runs = [(store.path, run) for store in opened for run in store.readable_runs()]
    if not runs:
        paths = ", ".join(store.address for store in opened)
        raise UsageError(f"serve: expected a run or more, found none in {paths}: extract one first")
    return runs


def _listener(port: int | None) -> socket.socket:
    """Return a socket that listens. Raises UsageError for a port that is taken."""
    # The usual port, or any free one; a port that was asked for is not replaced.
    for number in (USUAL_PORT, 0) if port is None else (port,):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, number))
            listener.listen(128)
        except OSError as error:
            listener.close()
            problem = error.strerror
        else:
            return listener
    raise UsageError(
        f"--port: expected a free port, found {port} ({problem}): choose another, or leave it out"
    )


def _started(viewer: Any, token: str, listener: socket.socket) -> tuple[Any, Thread]:
    """Return a server that answers, and its thread."""
    import uvicorn

    from kvtool.viewer.server import ViewerServer

    config = uvicorn.Config(
        ViewerServer(viewer, token),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
    )
    server = uvicorn.Server(config)
    # Not the main thread: there uvicorn would take Ctrl-C for itself.
    thread = Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    # The address is only given once somebody answers there.
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    return server, thread

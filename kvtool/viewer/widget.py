"""The viewer in a notebook: the same ES module, which asks the kernel in place of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kvtool.bounds import checked
from kvtool.errors import KvtoolError
from kvtool.store import Run, Store
from kvtool.store.select import StorePath
from kvtool.web.modules import NOTEBOOK, STYLE, joined_module, sources


@checked
def widget(
    target: StorePath | Store | Run | Sequence[StorePath | Store],
    *,
    model: str | None = None,
    data: Mapping[str, str | Path] | None = None,
    device: str = "auto",
    state: str = "",
    height: int = 720,
) -> Any:
    """Return the viewer as a widget for a notebook's cell; there is no server, the kernel answers.

    Its `state` is what is shown, as in the viewer's address, and can be read and set. Raises
    KvtoolError where anywidget is not installed, UsageError for stores without a run.

    Args:
        target: A run, or one store or several, by their paths or open.
        model: The runs' model, by its name or folder, which then answers questions.
        data: The places of data sets, by name, if they moved.
        device: Where the model runs.
        state: What is shown first, e.g. "view=heads&layer=4".
        height: The height in pixels.
    """
    try:
        anywidget, traitlets = import_module("anywidget"), import_module("traitlets")
    except ImportError:
        raise KvtoolError(
            "widget: expected the package anywidget, found none: pip install 'kvtool[notebook]'"
        ) from None
    from kvtool.viewer.questions import Questions
    from kvtool.viewer.serve import served_runs
    from kvtool.viewer.viewer import Viewer, runs_by_name

    def look() -> Mapping[tuple[str, str], Run]:
        """Return the run, or those that the stores hold by now."""
        if isinstance(target, Run):
            return runs_by_name([(target.store, target)])
        return runs_by_name(served_runs(target))

    viewer = Viewer(look(), dict(data or {}), Questions(model, device), look)
    members = {
        "_esm": joined_module(NOTEBOOK),
        "_css": sources()[STYLE],
        "state": traitlets.Unicode(state).tag(sync=True),
        "height": traitlets.Int(height).tag(sync=True),
    }
    page = type("ViewerWidget", (anywidget.AnyWidget,), members)()
    page.on_msg(lambda _, message, __: answer(page, viewer, message))
    return page


def answer(page: Any, viewer: Any, message: Any) -> None:
    """Answer what the page asked in a message: the same that a server answers."""
    number = message.get("id") if isinstance(message, dict) else None
    try:
        parameters = {str(name): str(value) for name, value in message["parameters"].items()}
        reply = viewer.answer(str(message["resource"]), parameters)
    except KvtoolError as error:
        page.send({"id": number, "error": str(error)})
    except (AttributeError, KeyError, TypeError):
        page.send({"id": number, "error": "viewer: expected a request with its parameters"})
    else:
        labels = {"id": number, "type": reply.media_type, "labels": dict(reply.labels)}
        page.send(labels, buffers=[reply.body])

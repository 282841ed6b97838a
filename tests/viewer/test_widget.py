"""The widget: the same answers, through a notebook's messages."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest

import kvtool
from kvtool.errors import KvtoolError
from kvtool.store import Run
from kvtool.viewer.page import MODULES, joined_module, static_files
from kvtool.viewer.viewer import Viewer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Sent:
    """What a widget sends."""

    def __init__(self, widget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[tuple[dict[str, Any], list[bytes]]] = []
        monkeypatch.setattr(widget, "send", self.take)

    def take(self, message: dict[str, Any], buffers: Any = ()) -> None:
        self.messages.append((message, list(buffers)))


def test_it_answers_as_the_server_does(
    run: Run, viewer: Viewer, scope: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = run.viewer(state="view=heads", height=500)
    assert (widget.state, widget.height) == ("view=heads", 500)
    sent = Sent(widget, monkeypatch)
    request = {**scope, "kind": "value", "layer": "1", "kv_head": "0"}
    for number, resource in enumerate(("block", "catalog")):
        widget._handle_custom_msg({"id": number, "resource": resource, "parameters": request}, [])
    (block, buffers), (catalog, catalog_buffers) = sent.messages
    expected = viewer.answer("block", request)
    assert buffers == [expected.body]
    assert block == {"id": 0, "type": expected.media_type, "labels": expected.labels}
    assert json.loads(catalog_buffers[0])["runs"][0]["run"] == run.name
    assert catalog["id"] == 1


@pytest.mark.parametrize(
    "message",
    [
        {"id": 3, "resource": "block", "parameters": {}},
        {"id": 3},
        "x",
        {"id": 3, "resource": 5, "parameters": []},
    ],
)
def test_what_is_off_is_said(run: Run, message: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    widget = kvtool.widget(run.store)
    sent = Sent(widget, monkeypatch)
    widget._handle_custom_msg(message, [])
    ((answer, buffers),) = sent.messages
    assert "\n" not in answer["error"]
    assert buffers == []


def test_without_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(KvtoolError, match=r"pip install 'kvtool\[notebook\]'$"):
        run.viewer()


def test_the_joined_module_defines_what_each_module_imports() -> None:
    """Modules stand behind those that they import, and no two define the same name."""
    texts = {name: data.decode() for name, data in static_files().items() if name in MODULES}
    for position, name in enumerate(MODULES):
        for imported in re.findall(r'from "\./(.+?)"', texts[name]):
            assert MODULES.index(imported) < position, (name, imported)
    names = re.findall(r"^(?:function|class|const|let) (\w+)", joined_module(), re.MULTILINE)
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
    assert 'from "./' not in joined_module()
    assert re.findall(r"^export", joined_module(), re.MULTILINE) == ["export"]

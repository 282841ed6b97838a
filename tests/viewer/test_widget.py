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
from kvtool.viewer.viewer import Viewer
from kvtool.web.modules import MODULES, NOTEBOOK, PAGE, REPORT_MODULES, joined, sources

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Sent:
    """What a widget sends."""

    def __init__(self, widget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[tuple[dict[str, Any], list[bytes]]] = []
        monkeypatch.setattr(widget, "send", self.take)

    def take(self, message: dict[str, Any], buffers: Any = ()) -> None:
        self.messages.append((message, list(buffers)))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize("names", [(*MODULES, PAGE), (*MODULES, NOTEBOOK), REPORT_MODULES])
def test_the_joined_module_defines_what_each_module_imports(names: tuple[str, ...]) -> None:
    """Modules stand behind those that they import, and no two define the same name."""
    texts = sources()
    for position, name in enumerate(names):
        for imported in re.findall(r'from "\./(.+?)"', texts[name]):
            assert names.index(imported) < position, (name, imported)
    module = joined(names)
    bound = re.findall(r"^(?:function|class|const|let) (\w+)", module, re.MULTILINE)
    assert sorted(set(bound)) == sorted(bound)
    assert 'from "./' not in module
    assert len(re.findall(r"^export", module, re.MULTILINE)) == (names[-1] == NOTEBOOK)

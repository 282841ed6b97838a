"""The page's commands of averages and comparisons, run again, give what the store keeps."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import pytest

import kvtool
from tests.support.comparisons import TASK, pair_run
from tests.support.shell import in_this_process
from tests.support.tasks.semantic_correspondence import write_spair
from tests.support.units import noise


@pytest.mark.slow
def test_the_commands_on_the_page_make_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, store = write_spair(tmp_path / "spair", images=4), tmp_path / "s.kv"
    for number, name in enumerate(("one", "two")):
        pair_run(store, root, name, noise(number), layers=3)
    kvtool.compare(
        store, ["two", "one"], TASK, kinds=["value"], layers=[0, 2], heads=[1], limit=9, seed=3
    )
    kvtool.average(store, models=["model of two"], layers="late", limit=12, seed=1)
    page = kvtool.report(store, tmp_path / "page.html").path.read_text(encoding="utf-8")
    lines = map(html.unescape, re.findall("<code>(kvtool (?:average|compare) .*?)</code>", page))
    commands = [shlex.split(line)[1:] for line in lines]
    assert [words[0] for words in commands] == ["average", "compare"]
    contents = {path.name for path in (store / "results").iterdir()}
    monkeypatch.chdir(tmp_path)  # the page says nothing of where the store lies
    shell = in_this_process(monkeypatch, capsys)
    for words in commands:
        assert shell(*words)[0] == 0
    assert {path.name for path in (store / "results").iterdir()} == contents

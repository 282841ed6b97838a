"""What may become of a file on disk, and commands run over a store whose kept results are damaged
so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from kvtool.result import Result
from kvtool.store import Store, keeping, layout, open_store
from kvtool.store.verify import verify


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_a_list(path: Path) -> None:
    path.write_bytes(b"[1, 2]")


DAMAGES = (flip, truncate, empty, make_a_list)


def assert_computed_again(
    store: Store | Path,
    command: Callable[[], Result],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str = "result",
) -> None:
    """All that a command keeps is damaged, each file in another way: it gives the same result,
    names files, and keeps whole ones in their place.

    kind: words that a file has which is damaged.
    """
    monkeypatch.setattr(keeping, "_warned", set())
    opened = store if isinstance(store, Store) else open_store(store)
    expected = command().to_json()
    before = [path for path in layout.entries(opened.results_dir) if kind in path.read_text()]
    for path, damage in zip(before, itertools.cycle(DAMAGES), strict=False):
        damage(path)
    caplog.clear()
    assert command().to_json() == expected
    notices = [message for message in caplog.messages if message.endswith("; it is computed again")]
    assert notices
    assert all(any(str(path) in message for path in before) for message in notices)
    # What the command did not read again is damaged still, and nothing else is.
    unread = {path.name for path in before if not any(str(path) in message for message in notices)}
    problems = {problem.what for problem in verify(opened) if problem.what.startswith("results/")}
    damaged = {Path(what.partition(": ")[0]).name for what in problems}
    # Results that a test took away before are named as well, for the ledger knows of them.
    removed = {name for name in damaged if not (opened.results_dir / name).exists()}
    assert damaged - removed == unread
    caplog.clear()
    assert command().to_json() == expected
    assert not [message for message in caplog.messages if "computed again" in message]

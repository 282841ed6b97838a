"""A run is named in full, by a beginning that no other shares, or as a table shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.errors import UsageError
from kvtool.store import Store, open_store

NAMES = ("demo-spair-11", "demo-spair-11+correct", "demo-davis-22", "tower-spair-33")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    opened = open_store(tmp_path / "s.kv", create=True)
    monkeypatch.setattr(Store, "runs", lambda _: list(NAMES))
    return opened


def full_name(store: Store, name: str) -> str:
    return store._full_name(name, store.runs())


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("demo-spair-11", "demo-spair-11"),
        ("demo-spair-11+correct", "demo-spair-11+correct"),
        ("demo-s", "demo-spair-11"),
        ("tow", "tower-spair-33"),
        ("demo...22", "demo-davis-22"),
        ("demo-s...correct", "demo-spair-11+correct"),
        ("demo-spair-11+", "demo-spair-11+correct"),
    ],
)
def test_names_that_mean_one_run(store: Store, name: str, full: str) -> None:
    assert full_name(store, name) == full


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demo", "2 runs begin so: demo-spair-11, demo-davis-22"),
        ("other", "it has: demo-spair-11"),
        ("", "it has: demo-spair-11"),
        ("davis", "no run 'davis'"),
    ],
)
def test_names_that_mean_none_or_several(store: Store, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("+", r"\+")):
        full_name(store, name)


def test_errors_list_five_names_at_most(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "runs", lambda _: [f"run-{n:02}" for n in range(40)])
    with pytest.raises(UsageError, match="run-04 and 35 more"):
        full_name(store, "x")

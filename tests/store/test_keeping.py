"""Kept results that are damaged: named in a warning, taken for none, replaced by the next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvtool import schema
from kvtool.result import Result
from kvtool.store import Store, keeping
from kvtool.store.sealed import SEAL, UNSEALED, sealed
from kvtool.store.verify import verify
from tests.support.damage import empty, flip, make_a_list, truncate
from tests.support.runs import new_store

RESULT = Result("probe", "task", "metric", 3, [{"metric": 0.5}]).to_json()


def seal_other_types(path: Path) -> None:
    path.write_bytes(
        sealed({SEAL: UNSEALED, "key": "abc", "kind": "result", "result": RESULT | {"rows": 5}})
    )


def seal_other_schema(path: Path) -> None:
    path.write_bytes(
        sealed({SEAL: UNSEALED, "key": "abc", "kind": "result", "result": {"schema": 7}})
    )


DAMAGES = (flip, truncate, empty, make_a_list, seal_other_types, seal_other_schema)


@pytest.fixture(autouse=True)
def _nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_warned", set())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_named_and_replaced(
    store: Store, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = store.save_result("abc", RESULT)
    assert store.kept("abc", Result.from_json) == Result.from_json(RESULT)
    damage(path)
    data = path.read_bytes()
    with caplog.at_level(logging.WARNING, "kvtool"):
        assert store.kept("abc", Result.from_json) is None
        assert store.kept("abc", Result.from_json) is None
    (message,) = caplog.messages
    assert str(path) in message
    assert message.endswith("; it is computed again")
    assert "\n" not in message
    assert path.read_bytes() == data
    store.save_result("abc", RESULT)
    assert store.kept("abc", Result.from_json) == Result.from_json(RESULT)
    assert verify(store) == []


def test_a_folder_in_the_place_of_a_result_is_none(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    path = keeping.result_path(store.path, "abc")
    path.mkdir()
    assert store.kept("abc", Result.from_json) is None
    assert not store.keep("abc", RESULT)
    assert [message.split(":")[0] for message in caplog.messages] == [
        f"result {path}",
        "result abc",
    ]


@pytest.mark.parametrize("damage", [flip, truncate, empty, make_a_list])
def test_lists_of_results_name_a_damaged_one_once(
    store: Store, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    store.save_result("good", RESULT)
    damage(store.save_result("abc", RESULT))
    assert [list(store.results()), list(store.results())] == [[RESULT], [RESULT]]
    (message,) = caplog.messages
    assert "abc.json" in message
    assert message.endswith("it is left out")


def test_answers_of_other_types_are_none(store: Store) -> None:
    def parse(record: dict[str, Any]) -> list[str]:
        return schema.read(list[str], record.get("ids"), "images")

    store.save_result("abc", {"ids": ["a"]})
    assert store.kept("abc", parse) == ["a"]
    store.save_result("abc", {"ids": {"a": 1}})
    assert store.kept("abc", parse) is None


def test_results_that_mention_a_text_are_all_results_of_it(store: Store) -> None:
    records = [{"command": "probe", "config": {"run_hash": name}} for name in ("ab12", "cd34")]
    for number, record in enumerate(records):
        store.save_result(f"key{number}", record)
    for record in records:
        name = record["config"]["run_hash"]  # type: ignore[index]
        assert list(store.results(mention=name)) == [record]
    assert list(store.results(mention="ef56")) == []
    assert len(list(store.results())) == 2

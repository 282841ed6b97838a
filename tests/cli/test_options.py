from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtool.cli.options import need_store, store_and_word
from kvtool.cli.output import emit_rows, resolve
from kvtool.cli.parsing import parse_bytes, parse_kinds, parse_tokens
from kvtool.errors import UsageError
from kvtool.layers import parse_numbers


def test_numbers_and_ranges() -> None:
    assert parse_numbers("0-3, 7,2", "--layers") == (0, 1, 2, 3, 7)
    assert parse_numbers(None, "--layers") is None


@given(st.sets(st.integers(0, 200), min_size=1))
def test_numbers_round_trip(numbers: set[int]) -> None:
    assert parse_numbers(",".join(map(str, numbers)), "--layers") == tuple(sorted(numbers))


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-1", "1-", "1.5"])
def test_bad_numbers_name_the_flag(text: str) -> None:
    with pytest.raises(UsageError, match="--layers: expected numbers"):
        parse_numbers(text, "--layers")


def test_kinds_keep_their_order_and_refuse_others() -> None:
    assert parse_kinds("value,key") == ("key", "value")
    with pytest.raises(UsageError, match="found 'values'"):
        parse_kinds("values")


@pytest.mark.parametrize(
    ("text", "n"), [("8GB", 8e9), ("500MB", 5e8), ("2e9", 2e9), ("10 kB", 1e4), ("7", 7)]
)
def test_sizes(text: str, n: float) -> None:
    assert parse_bytes(text, "--min-free-vram") == n


@pytest.mark.parametrize("text", ["GB", "1..2GB", "8 PB", "-1GB"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="--min-free-vram"):
        parse_bytes(text, "--min-free-vram")


def test_numbers_of_tokens() -> None:
    assert [parse_tokens(text) for text in ("all", "1", "64")] == ["all", 1, 64]


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "some", "1" + "0" * 5000])
def test_bad_numbers_of_tokens(text: str) -> None:
    with pytest.raises(UsageError, match="--tokens: expected all or a number of 1 or more"):
        parse_tokens(text)


def test_store_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVTOOL_STORE", "/data/a.kv")
    assert need_store(None) == Path("/data/a.kv")
    assert need_store(Path("b.kv")) == Path("b.kv")
    assert store_and_word("co-segmentation", None, "TASK") == (
        Path("/data/a.kv"),
        "co-segmentation",
    )
    assert store_and_word("b.kv", "co-segmentation", "TASK") == (Path("b.kv"), "co-segmentation")
    monkeypatch.delenv("KVTOOL_STORE")
    with pytest.raises(UsageError, match="KVTOOL_STORE"):
        need_store(None)
    with pytest.raises(UsageError, match="TASK"):
        store_and_word("b.kv", None, "TASK")


ROWS: list[dict[str, Any]] = [
    {"name": "a[b]", "n": 1, "tasks": ["x", "y"]},
    {"name": 'comma, quote"', "n": None, "tasks": []},
]


def test_rows_as_json_lines_keep_types(capsys: pytest.CaptureFixture[str]) -> None:
    emit_rows(ROWS, "auto")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ROWS


def test_rows_as_csv_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    import csv

    emit_rows(ROWS, "csv")
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in read] == ["a[b]", 'comma, quote"']
    assert read[0]["tasks"] == "x, y"
    emit_rows(ROWS, "json")
    assert json.loads(capsys.readouterr().out) == ROWS


def test_no_rows_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for format in ("table", "csv", "jsonl"):
        emit_rows([], format)
    assert capsys.readouterr().out == ""


def test_tables_do_not_eat_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    emit_rows(ROWS, "table", title="runs [layer/3]")
    out = capsys.readouterr().out
    assert "a[b]" in out
    assert "[layer/3]" in out


def test_auto_is_a_table_only_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert resolve("auto", Terminal()) == "table"
    assert resolve("auto", io.StringIO()) == "jsonl"
    assert resolve("csv", Terminal()) == "csv"


@pytest.mark.parametrize("text", ["0-999999999", "100000", "0-" + "9" * 5000])
def test_numbers_are_bounded_before_they_are_listed(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected numbers (below 100000|and ranges)"):
        parse_numbers(text, "--layers")

"""The tables of model families are those of the registry and of what was measured."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from kvtool.models.families import EXAMPLES, FAMILIES, VIEWS
from tests.tools import models


def test_every_multimodal_family_of_the_registry_has_a_row() -> None:
    assert set(models.NAMES) == models.multimodal_families() == set(models.saved())
    assert set(models.NAMES) <= set(EXAMPLES) & set(VIEWS)
    assert set(VIEWS) == set(FAMILIES.table)


@pytest.mark.parametrize("name", models.PAGES)
def test_the_tables_are_those_of_what_was_measured(name: str) -> None:
    page = models.PAGES[name].read_text()
    assert page.count("<!-- models -->") == 1
    assert models.filled(page, models.tables(models.saved())[name]) == page


def test_a_family_file_has_at_most_120_lines() -> None:
    """What several families share lies in other files; an adapter joins two models of its own."""
    for name in set(FAMILIES.table) - {"linear_adapter"}:
        path = Path(inspect.getfile(FAMILIES.load(name)))
        assert len(path.read_text().splitlines()) <= 120, path


def test_another_difference_changes_the_tables() -> None:
    measured = models.saved()
    rows = [{**row, "value": 0.5} for row in measured["gemma4"]]
    changed = models.tables(measured | {"gemma4": rows})
    assert all(table != models.tables(measured)[name] for name, table in changed.items())


def test_every_check_held() -> None:
    assert [
        (family, row)
        for family, rows in models.saved().items()
        for row in rows
        if not row["passed"]
    ] == []

"""What the shell offers at Tab, and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.asking.paired.tasks import EVIDENT, PAIRED
from kvtool.cli import completion
from kvtool.store import layout, open_store
from kvtool.tasks import TASKS
from tests.support.runs import config, create_run, new_run
from tests.support.shell import complete


@pytest.mark.slow
def test_tasks() -> None:
    assert complete("kvtool probe x.kv sem") == ["semantic-correspondence", "semantic-segmentation"]
    assert complete("kvtool probe x.kv ") == sorted([*TASKS.names(), "all"])
    assert complete("kvtool paired x.kv ") == sorted(PAIRED)
    assert complete("kvtool prefix x.kv r") == ["referring-expression"]
    assert complete("kvtool show --task co") == ["co-segmentation"]
    assert complete("kvtool probe co") == []  # a store's place
    assert complete("kvtool probe co", KVTOOL_STORE="x.kv") == ["co-segmentation"]


@pytest.mark.slow
def test_names_of_runs(tmp_path: Path) -> None:
    store = new_run(tmp_path, name="first").store
    create_run(open_store(store), config(name="second", prefix="correct"))
    assert complete(f"kvtool probe {store} --run ") == ["first", "second"]
    assert complete(f"kvtool variance {store} --run s") == ["second"]
    assert complete(f"kvtool store remove {store} f") == ["first"]
    assert complete("kvtool variance --run ", KVTOOL_STORE=str(store)) == ["first", "second"]
    assert complete(f"kvtool probe {tmp_path}/none --run ") == []


@pytest.mark.slow
def test_data_sets_and_benchmarks() -> None:
    assert complete("kvtool extract s.kv --dataset sp") == ["spair71k"]
    assert complete("kvtool knockout --benchmark scenes") == ["scenes", "scenes@mme"]


def test_tables_are_those_of_the_analyses() -> None:
    """They are repeated where nothing is to be imported."""
    assert set(completion.PAIRED) == set(PAIRED)
    assert set(completion.SURFACED) == set(EVIDENT)
    assert set(completion.PREFIXED) <= set(TASKS.names())
    assert layout.runs_path(Path("s")) == Path("s") / completion.RUNS

"""Which settings and weights make a run the same as a stored one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvtool.engine.plan import Job
from kvtool.errors import RunConflictError, UsageError
from tests.engine.match.folders import counts, extract


@pytest.mark.slow
def test_same_name_and_settings_differ_is_a_conflict(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    extract(tmp_path / "s.kv", tiny_model, few, run="mine", limit=1)
    with pytest.raises(RunConflictError, match="view: stored 'base', asked 'full'"):
        extract(tmp_path / "s.kv", tiny_model, few, run="mine", view="full")


@pytest.mark.slow
def test_the_same_weights_elsewhere_are_the_same_model(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tiny_model, elsewhere)
    first = extract(tmp_path / "s.kv", tiny_model, few)
    second = extract(tmp_path / "s.kv", elsewhere, few)
    assert (second.run, counts(second)) == (first.run, (6, 0))


@pytest.mark.slow
def test_explicit_defaults_are_the_defaults(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    first = extract(store, tiny_model, few)
    kinds = ("vision", "projected", "value", "key")
    again = extract(store, tiny_model, few, kinds=kinds, layers=(2, 1, 0))
    assert (again.run, counts(again)) == (first.run, (6, 0))
    assert extract(store, tiny_model, few, layers=(1,)).run != first.run


@pytest.mark.slow
def test_nothing_to_do_imports_no_torch(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    extract(store, tiny_model, few)
    code = (
        "import sys, kvtool\n"
        f"report = kvtool.extract({str(store)!r}, model={str(tiny_model)!r}, "
        f"dataset='folder:{few}')\n"
        "print(report.n_before, report.n_done, *sorted({'torch', 'transformers', 'zarr'} & "
        "sys.modules.keys()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert told.split() == ["6", "0"]


def test_a_worker_that_planned_before_the_run_was_there_joins_it(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    """It chose a name when the other had just taken the first one."""
    from kvtool.engine.match import open_extraction
    from kvtool.engine.plan import make_plan
    from kvtool.models import load_model
    from kvtool.store import open_store

    store = open_store(tmp_path / "s.kv", create=True)
    job = Job(str(tmp_path / "s.kv"), str(tiny_model), f"folder:{few}")
    extraction, model = open_extraction(job), load_model(str(tiny_model), weights=False)
    first = make_plan(extraction, model, None, store).open_run(store)
    late = make_plan(extraction, model, None, store)
    assert late.config.name == f"{first.name}-2"
    assert late.open_run(store).name == first.name
    assert store.runs() == [first.name]


@pytest.mark.slow
def test_no_layer_at_all_is_no_default(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    extract(tmp_path / "s.kv", tiny_model, few)
    with pytest.raises(UsageError, match="expected at least one"):
        extract(tmp_path / "s.kv", tiny_model, few, layers=())

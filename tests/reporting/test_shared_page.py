"""A page that is sent to others says nothing of the machine it was made on."""

from __future__ import annotations

import getpass
from dataclasses import replace
from pathlib import Path

import pytest

from kvtool.datasets.spair71k import SPair71k
from kvtool.experiments.probe.run import probe
from kvtool.reporting.collect import report
from tests.support.tasks.semantic_correspondence import GRID, WH, planted, write_spair
from tests.support.units import sample, write_run


@pytest.mark.slow
def test_no_folder_of_this_machine_is_in_a_page(tmp_path: Path) -> None:
    secret = tmp_path / "a-telling-name"
    root = write_spair(secret / "spair")
    dataset = SPair71k(root, "test")
    samples = [sample(ref.id, index, WH, GRID) for index, ref in enumerate(dataset.images())]
    model = str(secret / "weights" / "mine")
    fill = planted(dataset.pairs())
    run = write_run(
        secret / "s.kv", "spair71k", "test", root, samples, fill, model=model, name="mine"
    )
    probe(run, "semantic-correspondence")
    report(secret / "s.kv", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "a-telling-name" not in page
    assert str(tmp_path) not in page
    assert f"/{getpass.getuser()}/" not in page
    assert "spair71k:spair" in page
    assert replace(run.config, name="x").model.name == model

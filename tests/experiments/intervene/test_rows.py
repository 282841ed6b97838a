"""The rows of `kvtool intervene`: those about all questions, or also those about parts of them."""

from __future__ import annotations

import pytest

import kvtool
from tests.support.intervene_results import intervene_result
from tests.support.shell import Shell

COMMAND = ("intervene", "study.kv", "--benchmark", "mme:MME", "--heads", "all", "--method", "block")


@pytest.mark.slow
def test_rows_about_parts_are_printed_on_request(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = intervene_result(["Spatial", "Counting"], "group")
    monkeypatch.setitem(vars(kvtool), "intervene", lambda *_, **__: result)
    n_rows = {}
    for rows in ("summary", "all"):
        code, out, _ = shell(*COMMAND, "--rows", rows, "--format", "csv")
        assert code == 0
        n_rows[rows] = len(out.splitlines()) - 1
    assert n_rows["all"] == len(list(result.flat_rows()))
    assert 0 < n_rows["summary"] < n_rows["all"]

"""One checkpoint, given as a hub id, as the id with its commit, and as the folder of its
snapshot.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.outcomes import rows
from tests.support.hub import COMMIT, cached
from tests.support.shell import Shell


@pytest.mark.slow
def test_nothing_is_extracted_twice(
    shell: Shell, hub: Path, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    snapshot = cached(hub, tiny_model, "main")
    store = tmp_path / "s.kv"
    counts = []
    for model in ("acme/tiny", f"acme/tiny@{COMMIT}", snapshot, tiny_model):
        (row,) = rows(
            shell("-q", "extract", store, "--model", model, "--dataset", f"folder:{photos}")
        )
        counts.append((row["already_stored"], row["extracted"]))
    assert counts == [(0, 3), (3, 0), (3, 0), (3, 0)]
    assert len(rows(shell("store", "runs", store))) == 1
    assert rows(shell("variance", store))

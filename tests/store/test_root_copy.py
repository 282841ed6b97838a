"""The copy of a store's zarr.json in its ledger: verify says where it is damaged or gone, repair
makes it again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvtool.store import layout, open_store
from kvtool.store.repair import repair
from kvtool.store.verify import verify
from tests.support.damage import DAMAGES


@pytest.mark.parametrize("damage", [*DAMAGES, Path.unlink])
def test_it_is_missed_and_made_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = open_store(tmp_path / "s.kv", create=True)
    copy = layout.ledger_path(store.path) / layout.ROOT_COPY
    content = copy.read_bytes()
    damage(copy)
    (problem,) = verify(store)
    assert "ledger/store.json" in f"{problem.what}"
    repair(store)
    assert copy.read_bytes() == content
    assert list(verify(store)) == []

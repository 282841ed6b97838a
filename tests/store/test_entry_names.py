"""Which parts hold images of a range, as their names tell."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from kvtool.store.layout import entry_names, part_name, part_range

BOUNDARIES = (0, 1, 31, 32, 33, 9_999_998, 9_999_999, 10_000_000, 10_000_001, 123_456_789)
INDICES = st.one_of(st.sampled_from(BOUNDARIES), st.integers(0, 40))
RANGES = st.tuples(INDICES, INDICES).map(lambda pair: range(min(pair), max(pair) + 1))


@given(st.lists(RANGES, max_size=8), RANGES)
@example([range(0, 32), range(9_999_968, 9_999_999)], range(9_999_990, 10_000_010))
def test_the_parts_of_a_range_are_named(parts: list[range], within: range) -> None:
    """Against their ranges, told one by one; what is no part is named whatever its name."""
    names = {part_name(part.start, part.stop) for part in parts}
    strangers = {"note", "0000000_0000001", "0000001-0000001"}
    with tempfile.TemporaryDirectory() as path:
        for name in [*names, *strangers, "zarr.json"]:
            (Path(path) / name).touch()
        listed = entry_names(Path(path), within)
    expected = {
        name
        for name in names
        if (span := part_range(name))
        and range(max(span[0], within.start), min(span[1], within.stop))
    }
    assert listed == sorted(listed)
    assert set(listed) - strangers == expected
    assert "note" in listed


def test_there_may_be_no_folder(tmp_path: Path) -> None:
    assert entry_names(tmp_path / "none", range(3)) == []

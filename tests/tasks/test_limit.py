"""A limit reads as many annotations as it takes, and leaves out those that cannot be used."""

from __future__ import annotations

import pytest

from kvtool.errors import DatasetError
from kvtool.tasks.truth import READ_THREADS, LeftOut


@pytest.mark.parametrize(("limit", "n_read"), [(1, READ_THREADS), (20, 20), (None, 100)])
def test_no_more_are_read_than_it_takes(limit: int | None, n_read: int) -> None:
    read: list[int] = []
    left_out = LeftOut()
    passed = left_out.usable(range(100), read.append, limit)
    assert passed == list(range(100 if limit is None else limit))
    assert len(read) == n_read
    assert left_out.count == 0


def test_as_many_are_read_again_as_could_not_be_used() -> None:
    read: list[int] = []

    def check(unit: int) -> None:
        """Every other unit of the first ten cannot be used."""
        read.append(unit)
        if unit < 10 and unit % 2:
            raise DatasetError(f"unit {unit}: unusable")

    left_out = LeftOut()
    assert left_out.usable(range(100), check, 20) == [*range(0, 10, 2), *range(10, 25)]
    assert (len(read), left_out.count, left_out.lines[0]) == (25, 5, "unit 1: unusable")

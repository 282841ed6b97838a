"""Threads that rest: what stands by ends with the context, whatever happens within."""

from __future__ import annotations

import threading

import pytest
import torch

from kvtool.models.threads import resting_threads


@pytest.fixture(params=[1, 2])
def n_threads(request: pytest.FixtureRequest) -> object:
    """Torch's number of threads, as it was before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_a_team_stands_by_for_as_long_as_the_context(n_threads: int) -> None:
    """A thread beside this one where torch has several, none where it has one, none afterwards."""
    names = {thread.name for thread in threading.enumerate()}
    numbers = torch.arange(1 << 18, dtype=torch.float64)
    with resting_threads():
        standing = {thread.name for thread in threading.enumerate()} - names
        assert bool(standing) == (n_threads > 1)
        assert numbers.add(1).sum() == numbers.sum() + len(numbers)
    assert {thread.name for thread in threading.enumerate()} == names
    with pytest.raises(ZeroDivisionError), resting_threads():
        raise ZeroDivisionError
    assert {thread.name for thread in threading.enumerate()} == names
    assert torch.get_num_threads() == n_threads

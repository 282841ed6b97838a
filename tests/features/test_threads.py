"""Work shared among threads, in each of which torch computes alone, against a single thread's."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import pytest
import torch

from kvtool.features import logistic
from kvtool.features.threads import in_threads, lone_threads

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let torch use two threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_each_thread_is_alone_and_the_number_comes_back() -> None:
    """Also where something fails; and the outcomes stand in the order of the items."""
    with lone_threads(CPU) as threads:
        assert (threads, torch.get_num_threads()) == (2, 1)
        outcomes = in_threads(lambda item: (item, torch.get_num_threads()), range(5), threads)
    assert outcomes == [(item, 1) for item in range(5)]
    with pytest.raises(ZeroDivisionError), lone_threads(CPU) as threads:
        in_threads(lambda item: 1 // item, [1, 0], threads)
    assert torch.get_num_threads() == 2


def pids(threads: int) -> list[int]:
    """The process in which each of four items is computed."""
    return in_threads(lambda _: os.getpid(), range(4), threads)


def test_a_forked_process_has_threads_of_its_own() -> None:
    """Those of its parent, which stay there, would leave it waiting without end."""
    assert pids(2) == [os.getpid()] * 4
    with multiprocessing.get_context("fork").Pool(1) as child:
        child_pids = child.apply_async(pids, (2,)).get(timeout=60)
    assert set(child_pids).isdisjoint({os.getpid()})


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("n_problems", [0, 1, 3])
def test_problems_of_two_threads_are_solved_as_by_a_single(n_problems: int) -> None:
    """Fewer problems than threads, and more; each has rows of its own to leave out."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n_problems, 60, 5, generator=generator)
    labels = (features[:, :, 0] > 0) if n_problems else torch.zeros(1, 60, dtype=torch.bool)
    weights = (torch.rand(n_problems, 60, generator=generator) > 0.3).float()
    shared = logistic.fit(features, labels, weights)
    torch.set_num_threads(1)
    single = logistic.fit(features, labels, weights)
    for ours, expected in zip(shared, single, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert shared.weights.shape == (n_problems, 5)

"""McNemar's test against numbers worked out by hand and against the binomial written out."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtool.stats.bootstrap import Array
from kvtool.stats.mcnemar import mcnemar


def answers(n_both: int, lost: int, gained: int, neither: int) -> tuple[Array, Array]:
    before = [True] * n_both + [True] * lost + [False] * gained + [False] * neither
    after = [True] * n_both + [False] * lost + [True] * gained + [False] * neither
    return np.array(before), np.array(after)


@pytest.mark.parametrize(
    ("lost", "gained", "p", "mid_p"),
    [
        # (1 + 10) / 1024 on each side; the seen 10 / 1024 taken off once.
        (1, 9, 22 / 1024, 12 / 1024),
        (9, 1, 22 / 1024, 12 / 1024),
        (0, 5, 2 / 32, 1 / 32),
        # equal counts: exact p is 1, and half of the seen 6 / 16 is taken off.
        (2, 2, 1.0, 13 / 16),
        (1, 2, 1.0, 1 - 3 / 8),
        (0, 1, 1.0, 0.5),
        (0, 0, 1.0, 1.0),
    ],
)
def test_by_hand(lost: int, gained: int, p: float, mid_p: float) -> None:
    test = mcnemar(*answers(7, lost, gained, 3))
    assert (test.lost, test.gained) == (lost, gained)
    assert test.p == pytest.approx(p, abs=1e-12)
    assert test.mid_p == pytest.approx(mid_p, abs=1e-12)


@given(st.integers(0, 60), st.integers(0, 60))
def test_equals_the_binomial_in_whole_numbers(lost: int, gained: int) -> None:
    test = mcnemar(*answers(1, lost, gained, 0))
    n, low = lost + gained, min(lost, gained)
    tail = Fraction(sum(comb(n, k) for k in range(low + 1)), 2**n)
    exact = min(Fraction(1), 2 * tail)
    assert test.p == pytest.approx(float(exact), rel=1e-9)
    if n:
        seen = Fraction(comb(n, low), 2**n)
        assert test.mid_p == pytest.approx(
            float(exact - (seen / 2 if lost == gained else seen)), rel=1e-9
        )


def test_many_questions() -> None:
    test = mcnemar(*answers(0, 4400, 4600, 0))
    assert test.p == pytest.approx(
        0.0358, abs=2e-4
    )  # normal approximation with continuity: z = 199 / sqrt(9000)
    assert 0 < test.mid_p < test.p

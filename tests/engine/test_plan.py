from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtool.datasets.base import ImageRef
from kvtool.engine.plan import PART_BYTES, PART_IMAGES, Plan, part_size
from kvtool.models.base import Request
from kvtool.store import RunConfig
from kvtool.types import Geometry, ModelInfo

INFO = ModelInfo("m", "r", "llava_onevision", Geometry(2, 4, 2, 8, 32, 2, 16), "bfloat16", "sdpa")
CONFIG = RunConfig(
    "run", INFO, "folder", None, "", "none", "base", "post-rope", ("value",), (0, 1), (1,)
)


def plan(n: int, size: int) -> Plan:
    config = replace(CONFIG, part_size=size)
    refs = tuple(ImageRef(str(i)) for i in range(n))
    request, ids = Request(("value",), (0, 1), (1,)), tuple(ref.id for ref in refs)
    return Plan(config, request, ids, None, refs, ("",) * n, tuple(range(n)), (), 1, 1)


@given(st.integers(1, 100), st.integers(1, 40), st.sets(st.integers(0, 99)))
def test_parts_hold_what_is_missing_once_and_never_cross_a_block(
    n: int, size: int, covered: set[int]
) -> None:
    parts = plan(n, size).parts(covered)
    assert [i for part in parts for i in part] == [i for i in range(n) if i not in covered]
    assert all(part[0] // size == part[-1] // size for part in parts)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 16))
def test_a_longer_run_extends_a_shorter_one(first: int, growth: int, size: int) -> None:
    """The parts of the longer run that remain start where the shorter one ended, on the same
    blocks.
    """
    done = set(range(first))
    parts = plan(first + growth, size).parts(done)
    assert parts[0][0] == first
    assert all(part[0] % size == 0 for part in parts[1:])


@pytest.mark.parametrize(
    ("image_bytes", "images"),
    [(0, 32), (600_000, 32), (42_000_000, 32), (49_000_000, 32), (418_000_000, 2), (9e9, 1)],
)
def test_part_size_bounds_memory(image_bytes: float, images: int) -> None:
    """49 MB: LLaVA-OneVision 7B, base view, all kinds; 418 MB: with all its tiles."""
    assert part_size(int(image_bytes)) == images
    assert images == 1 or images * image_bytes <= PART_BYTES
    assert images <= PART_IMAGES

"""What is committed to a run is read back bit by bit, whatever its shapes, dtypes and values."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtool.store import open_store
from kvtool.types import Geometry, Precision
from tests.support.runs import MODEL, assert_holds, assert_same_bits, commit, new_run, sample


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_shape_dtype_and_bits_round_trip(data: st.DataObject) -> None:
    n_layers, heads, dim = (data.draw(st.integers(1, 3)) for _ in range(3))
    geometry = Geometry(
        9, heads, heads, dim, data.draw(st.integers(1, 9)), 4, data.draw(st.integers(1, 9))
    )
    dtype: Precision = data.draw(st.sampled_from(get_args(Precision)))
    kinds = data.draw(
        st.lists(st.sampled_from(["key", "value", "projected", "vision"]), min_size=1, unique=True)
    )
    count = st.integers(0, 40) if data.draw(st.booleans()) else st.integers(257, 300)
    images = [
        sample(
            index, data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)), data.draw(count)
        )
        for index in sorted(data.draw(st.sets(st.integers(0, 50), min_size=1, max_size=5)))
    ]
    with tempfile.TemporaryDirectory() as folder:
        run = new_run(
            Path(folder),
            model=replace(MODEL, geometry=geometry, dtype=dtype),
            kinds=tuple(kinds),
            layers=tuple(range(n_layers)),
            codec=data.draw(st.sampled_from(["lz4", "none"])),
        )
        commit(run, images)
        assert_holds(open_store(run.store).run(run.name), images)


@pytest.mark.parametrize(
    ("dtype", "bits"), [("bfloat16", "<u2"), ("float16", "<u2"), ("float32", "<u4")]
)
def test_nan_payloads_infinities_and_subnormals_keep_their_bits(
    tmp_path: Path, dtype: Any, bits: str
) -> None:
    nonzero = {
        "<u2": [
            0x7FC1,
            0xFFC5,
            0x7F81,
            0x7C00,
            0xFC00,
            0x7F80,
            0xFF80,
            1,
            0x8001,
            0x8000,
            0x7C01,
            0xFE03,
        ]
    }
    patterns = nonzero.get(
        bits,
        [0x7FC00001, 0xFFA00005, 0x7F800000, 0xFF800000, 1, 0x80000001, 0x80000000, 0x7F800001],
    )
    image = sample(0, n_tokens=4, n_prefix=0)
    stored = np.dtype("<u2") if dtype == "bfloat16" else np.dtype(f"<f{np.dtype(bits).itemsize}")
    values = np.resize(np.array(patterns, bits), (2, 2, 4, 8)).view(stored)
    run = new_run(tmp_path, kinds=("key",), model=replace(MODEL, dtype=dtype))
    run.commit_part("0000000-0000001", [image], {"key": values})
    for layer in range(2):
        for head in range(2):
            assert_same_bits(
                run.read("key", (1, 3)[layer], head, raw=True).values, values[layer, head]
            )

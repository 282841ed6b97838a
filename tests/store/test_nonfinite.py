"""Values that are not finite: every one is counted where it is, recorded with its part, and listed
by verify.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvtool.store.encoding import STORED_DTYPE, Bits, bits_to_float32
from kvtool.store.nonfinite import blocks, count_nonfinite, describe
from kvtool.store.verify import verify
from kvtool.types import Precision
from tests.support.runs import MODEL, config, image_arrays, new_run, ragged, random_bits

DTYPES: list[Precision] = ["bfloat16", "float16", "float32"]
SPOILING = {
    "bfloat16": [0x7FC0, 0xFFC0, 0x7F81, 0x7F80, 0xFF80],
    "float16": [0x7E00, 0xFE00, 0x7C01, 0x7C00, 0xFC00],
    "float32": [0x7FC00000, 0xFFC00000, 0x7F800001, 0x7F800000, 0xFF800000],
}
"""Bits of NaNs of both signs and with a payload, and of both infinities."""


def as_numbers(values: Bits) -> Bits:
    return bits_to_float32(values) if values.dtype == np.uint16 else values


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_are_those_of_numpy(dtype: Precision) -> None:
    for seed in range(20):
        values = random_bits(np.random.default_rng(seed), (3, 7, 8), STORED_DTYPE[dtype])
        assert count_nonfinite(values) == np.count_nonzero(~np.isfinite(as_numbers(values)))
    assert count_nonfinite(values[:0]) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_alone_is_found_among_the_largest_numbers(dtype: Precision) -> None:
    unsigned = np.dtype(f"u{STORED_DTYPE[dtype].itemsize}")
    sign = 1 << (8 * unsigned.itemsize - 1)
    infinity = SPOILING[dtype][3]
    largest = np.array([infinity - 1, infinity - 1 + sign] * 20, unsigned)
    assert count_nonfinite(largest.view(STORED_DTYPE[dtype])) == 0
    for bits in SPOILING[dtype]:
        values = largest.copy()
        values[7] = bits
        assert count_nonfinite(values.view(STORED_DTYPE[dtype])) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_run_says_where_they_are(tmp_path: Path, dtype: Precision) -> None:
    """Two parts of images of unequal length, whose last chunks are padded with NaN, which does not
    count.
    """
    run = new_run(tmp_path, model=replace(MODEL, dtype=dtype))
    nan = np.array(SPOILING[dtype][0], f"u{STORED_DTYPE[dtype].itemsize}").view(STORED_DTYPE[dtype])
    for start in (0, 3):
        images = [ragged(index) for index in range(start, start + 3)]
        arrays: dict[str, list[Bits]] = {
            name: [image_arrays(run.config, image)[name].copy() for image in images]
            for name in run.config.kinds
        }
        text = {
            kind: [image_arrays(run.config, image)[f"text_{kind}"].copy() for image in images]
            for kind in ("key", "value")
        }
        arrays["value"][1][1, 0, 2, 5] = nan  # layer 3, head 0, in both parts
        if start == 3:
            arrays["vision"][0][0, 0, 0, :2] = nan
            text["key"][1][0, 1, :, :] = (
                nan  # layer 1, head 1: as many as its tokens before the image, 8 dims each
            )
        run.commit_part(f"{start:07d}-{start + 3:07d}", images, arrays, text)
    texts = np.zeros((4, 2, 2, 8), STORED_DTYPE[dtype])
    texts[3, 1, 1, 0] = nan
    run.commit_text(["a", "b", "c", "d"], texts)
    n_key = 8 * ragged(4).image_start
    expected = {
        ("value", 3, 0): 2,
        ("vision", 2, 0): 2,
        ("text_key", 1, 1): n_key,
        ("text", 3, 1): 1,
    }
    assert run.nonfinite() == {block: count for block, count in expected.items() if count}
    assert run.nonfinite(range(0, 3)) == {("value", 3, 0): 1}
    assert blocks(run.nonfinite()) == {
        *(("value", 3, 0), ("vision", 2, 0), ("value", 3, 1)),
        *([("key", 1, 1)] if n_key else []),
    }


def test_finite_parts_record_nothing(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    images = [ragged(index) for index in range(3)]
    arrays = {
        name: [image_arrays(run.config, image)[name] for image in images]
        for name in run.config.array_names()
    }
    text = {kind: arrays.pop(f"text_{kind}") for kind in ("key", "value")}
    run.commit_part("0000000-0000003", images, arrays, text)
    assert run.nonfinite() == {}
    assert "nonfinite" not in run.parts()[0].attributes


def test_verify_lists_them_and_nothing_else(tmp_path: Path) -> None:
    from kvtool.store import open_store

    run = new_run(tmp_path)
    image = ragged(0)
    arrays = {name: values.copy() for name, values in image_arrays(run.config, image).items()}
    arrays["value"][0] = 0x7FC0
    arrays["value"][1, 1, 0, 0] = 0xFF80
    text = {kind: arrays.pop(f"text_{kind}") for kind in ("key", "value")}
    run.commit_part("0000000-0000001", [image], arrays, text)
    (problem,) = verify(open_store(run.store))
    assert (problem.run, problem.part, problem.array) == ("tiny", "0000000-0000001", "value")
    n = arrays["value"][0].size + 1
    assert (
        problem.what
        == f"{n} values that are not finite: value: layer 1, all heads; layer 3, head 1"
    )


def test_neighboring_layers_are_told_together() -> None:
    blocks = [("value", layer, head) for layer in (1, 3) for head in (0, 1)]
    assert describe(blocks, config()) == "value: layers 1, 3, all heads"
    many = [("value", layer, head) for layer in (3, 4, 5, 9) for head in (0, 1)]
    assert describe([*many, ("key", 2, 1), ("vision", 2, 0)], config()) == (
        "key: layer 2, head 1, and value: layers 3-5, 9, all heads, and vision: layer 2"
    )

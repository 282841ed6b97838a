"""Small runs for the store's tests.

An image's numbers follow from its index alone, so any split into parts agrees.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.store import Run, RunConfig, Store, open_store, owners, part_name
from kvtool.store.encoding import STORED_DTYPE, Bits
from kvtool.store.files import os_errors
from kvtool.store.run_arrays import token_counts
from kvtool.store.run_folder import write_run
from kvtool.types import Geometry, GridSpan, ModelInfo, Sample

GEOMETRY = Geometry(
    layers=5, q_heads=4, kv_heads=2, head_dim=8, hidden=12, vision_layers=3, vision_dim=6
)
MODEL = ModelInfo("lab/tiny", "abc", "llava-onevision", GEOMETRY, "bfloat16", "sdpa")


def config(**changes: Any) -> RunConfig:
    """A run of all kinds: layers 1 and 3 of five, vision layer 2 of three."""
    base = RunConfig(
        name="tiny",
        model=MODEL,
        dataset="folder",
        dataset_path="/data",
        split="all",
        prefix="none",
        view="base",
        keys="post-rope",
        kinds=("key", "value", "projected", "vision"),
        layers=(1, 3),
        vision_layers=(2,),
        part_size=4,
    )
    return replace(base, **changes)


def new_store(path: Path) -> Store:
    return open_store(path / "tiny.kv", create=True)


def new_run(path: Path, **changes: Any) -> Run:
    return create_run(new_store(path), config(**changes))


def create_run(store: Store, config: RunConfig) -> Run:
    """The run of these settings by the name that they say, made where the store has none.

    Of several processes that make it at once, one does.
    """
    store.sweep_tmp()
    name = config.run_name
    if name not in store.runs():
        with os_errors(f"run {name}: cannot be made in {store.path}"):
            write_run(store.path, replace(config, name=name))
    run = store.run(name)
    assert run.config.hash == config.hash
    return run


def sample(index: int, n_tokens: int = 6, n_vision_tokens: int = 4, n_prefix: int = 3) -> Sample:
    spans = (GridSpan("base", 0, (1, n_tokens), n_tokens, (0.0, 0.0, 20.0, 10.0)),)
    vision = (GridSpan("base", 0, (1, n_vision_tokens), n_vision_tokens, (0.0, 0.0, 20.0, 10.0)),)
    ids = tuple(range(n_prefix))
    position = n_prefix + n_tokens
    return Sample(
        f"image{index}",
        index,
        (20, 10),
        n_tokens,
        spans,
        n_vision_tokens,
        vision,
        "é 'x'",
        ids,
        n_prefix,
        position,
    )


def ragged(index: int) -> Sample:
    """An image whose token counts differ from its neighbours'."""
    return sample(index, n_tokens=3 + index % 5, n_vision_tokens=1 + index % 3, n_prefix=index % 4)


def dead_process(**changes: Any) -> owners.Process:
    """A process of this machine that has ended, or one that differs from it in some way."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    return replace(owners.this_process(), pid=child.pid, token="00000000", **changes)


def random_bits(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Bits:
    """Any bit pattern: NaNs with payloads, infinities, subnormals and negative zeros among them."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(rng.bytes(nbytes), dtype).reshape(shape)


def finite_bits(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Bits:
    """Any bit pattern but NaNs and infinities."""
    lowest_exponent_bit = {"uint16": 0x0080, "float16": 0x0400, "float32": 0x00800000}[dtype.name]
    bits = random_bits(rng, shape, dtype).view(f"u{dtype.itemsize}")
    finite: Bits = (bits & ~np.array(lowest_exponent_bit, bits.dtype)).view(dtype)
    return finite


def image_arrays(config: RunConfig, image: Sample) -> dict[str, Bits]:
    """Every array of one image, (layer, head, token, dim), from its index."""
    rng = np.random.default_rng(image.index)
    arrays = {}
    for name in config.array_names():
        heads, dim = config.heads_and_dim(name)
        shape = (len(config.stored_layers(name)), heads, token_counts([image], name)[0], dim)
        arrays[name] = finite_bits(rng, shape, STORED_DTYPE[config.model.dtype])
    return arrays


def commit(run: Run, images: Iterable[Sample], name: str | None = None) -> int:
    """Commit a part of these images; returns the bytes written."""
    images = list(images)
    arrays: dict[str, list[Bits]] = {array: [] for array in run.config.array_names()}
    for image in images:
        for array, values in image_arrays(run.config, image).items():
            arrays[array].append(values)
    text = {
        array.removeprefix("text_"): arrays.pop(array)
        for array in list(arrays)
        if array.startswith("text_")
    }
    return run.commit_part(
        name or part_name(images[0].index, images[-1].index + 1), images, arrays, text
    )


def assert_same_bits(actual: Bits, expected: Bits) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()


def assert_holds(run: Run, images: Iterable[Sample]) -> None:
    """Every array of every image is what image_arrays says, bit for bit, and there is no other
    image.
    """
    images = list(images)
    assert run.samples == images
    for image in images:
        expected = image_arrays(run.config, image)
        arrays = run.read_image(image.id, raw=True)
        assert set(arrays) == set(expected)
        for name, values in expected.items():
            assert_same_bits(arrays[name], values)

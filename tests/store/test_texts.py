"""Vectors of texts in a run: by template, by array; those of an older version are never read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kvtool.errors import UsageError
from kvtool.store import Run, float32_to_bits
from tests.support.tasks import language
from tests.support.tasks.language import LAYERS, imagenet_run
from tests.support.units import DIM, HEADS, Array

NAMES = ["cat", "dog"]


def vectors(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {
        "value": (2, LAYERS, HEADS, DIM),
        "projected": (2, 1, 1, 2 * DIM),
        "projected_mean": (2, 1, 1, 2 * DIM),
    }
    return {
        name: float32_to_bits(rng.normal(size=shape).astype(np.float32))
        for name, shape in shapes.items()
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return imagenet_run(tmp_path)


def test_templates_are_apart(run: Run) -> None:
    plain, photo = vectors(0), vectors(1)
    run.commit_text(NAMES, plain, token_counts=[1, 2])
    run.commit_text(NAMES, photo, "a photo of a {}.", [5, 6])
    run.commit_text(NAMES, vectors(2), "a photo of a {}.", [5, 6])  # known already
    assert run.text_templates == ["{}", "a photo of a {}."]
    for template, stored in (("{}", plain), ("a photo of a {}.", photo)):
        texts = run.texts(template)
        assert not texts.lacks(NAMES)
        assert texts.lacks(["cat", "cow"])
        np.testing.assert_array_equal(
            texts.values(3, 1, raw=True), np.ascontiguousarray(stored["value"][:, 3, 1])
        )
        for array in ("projected", "projected_mean"):
            assert texts.names(array) == NAMES
            np.testing.assert_array_equal(
                texts.values(0, 0, raw=True, array=array), stored[array][:, 0, 0]
            )
        copied = texts.vectors_for(run.config, ["dog", "cat"])
        assert copied is not None
        for array, values in stored.items():
            np.testing.assert_array_equal(copied[array], values[::-1])
    assert run.texts("a photo of a {}.").token_counts == {"cat": 5, "dog": 6}
    assert run.texts("alone:{}").lacks(NAMES)
    with pytest.raises(UsageError, match="no texts for layer 3"):
        run.texts().values(3, 0, array="projected")


def test_an_array_that_is_lacking_is_added(run: Run) -> None:
    """As where a run was made before there were vectors of that array."""
    everything = vectors(0)
    run.commit_text(NAMES, everything["value"])
    assert run.texts().lacks(NAMES)
    run.commit_text(NAMES, everything)
    assert not run.texts().lacks(NAMES)


def test_vectors_of_another_version_are_not_read(run: Run) -> None:
    language.commit_texts(run, NAMES)
    (record,) = (run.folder / "text").glob("*/zarr.json")
    document = json.loads(record.read_text())
    assert document["attributes"]["version"] == 2
    version_1 = {
        name: value
        for name, value in document["attributes"].items()
        if name not in ("version", "template")
    }
    older = [part.attributes for part in run._scan("text")]
    older[0].clear()
    older[0].update(version_1)
    assert run.text_names == []
    assert run.text_templates == []
    assert run.texts().lacks(NAMES)
    run.commit_text(NAMES, vectors(1))
    assert run.text_names == NAMES

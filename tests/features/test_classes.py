"""Tokens of a class: those that a count pixel by pixel gives, of every kind of label maps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kvtool.datasets.identity import dataset_of
from kvtool.errors import UsageError
from kvtool.features.classes import class_tokens
from kvtool.store import Run
from kvtool.types import GridSpan
from tests.support.tasks.runs import RUNS

Array = np.ndarray[Any, Any]


def majority(mask: Array, span: GridSpan) -> list[int]:
    """The slow reference: token after token, the pixels whose centers lie in its cell."""
    x0, y0, x1, y1 = span.cover_xyxy_px
    rows, cols = span.grid
    tokens = []
    for row, col in np.ndindex(rows, cols):
        labels = [
            int(mask[y, x])
            for y, x in np.ndindex(mask.shape)
            if row <= (y + 0.5 - y0) / (y1 - y0) * rows < row + 1
            and col <= (x + 0.5 - x0) / (x1 - x0) * cols < col + 1
        ]
        if labels.count(1) > labels.count(0):
            tokens.append(span.start + row * span.row_stride + col)
    return tokens


def mask_of_labels(dataset: Any, image: str, category: str) -> Array:
    ids = dataset.label_map(image)
    convention = dataset.label_convention()
    class_id = convention.first_id + list(dataset.class_texts()).index(category)
    return np.where(ids == convention.ignored_id, 255, ids == class_id)


def mask_of_class(dataset: Any, image: str, category: str) -> Array:
    (class_id,) = {
        entry.class_id
        for entry in dataset.entries()
        if dataset.name_of_class(entry.class_id) == category
    }
    mask: Array = dataset.class_mask(image, class_id)
    return mask


def mask_of_group(dataset: Any, image: str, category: str) -> Array:
    mask: Array = dataset.group_mask(image, category)
    return mask


MASKS: dict[str, Callable[[Any, str, str], Array]] = {
    "semantic-segmentation": mask_of_labels,
    "bdd10k": mask_of_labels,
    "foreground-segmentation": mask_of_class,
    "co-segmentation": mask_of_group,
}


def a_class(dataset: Any, name: str) -> str:
    """One that the run's images have."""
    if name == "co-segmentation":
        return str(next(iter(dataset.groups())))
    if name == "foreground-segmentation":
        return str(dataset.name_of_class(dataset.entries()[0].class_id))
    image = dataset.labelled_ids()[0]
    ids = dataset.label_map(image).reshape(-1).tolist()
    convention = dataset.label_convention()
    texts = dataset.class_texts()
    numbers = [number - convention.first_id for number in ids if number != convention.ignored_id]
    return str(texts[max(number for number in numbers if 0 <= number < len(texts))])


@pytest.mark.slow
@pytest.mark.parametrize("name", MASKS)
def test_tokens_are_those_of_a_count_pixel_by_pixel(name: str, tmp_path: Path) -> None:
    run = RUNS[name](tmp_path)
    dataset: Any = dataset_of(run)
    category = a_class(dataset, name)
    tokens = class_tokens(run, category)
    assert list(tokens) == [image for image in run.ids if image in tokens]
    assert tokens
    for image in list(tokens)[:3]:
        mask = MASKS[name](dataset, image, category)
        assert tokens[image].tolist() == majority(mask, run[image].sample.base())


def test_a_run_reads_a_class(tmp_path: Path) -> None:
    """Values and table are those of the same tokens among all; one image alone, too."""
    run: Run = RUNS["co-segmentation"](tmp_path)
    layer = run.layers[0]
    tokens = class_tokens(run, "cow")
    block = run.read("value", layer, 1, category="cow")
    table = run.tokens(category="cow")
    assert [image.id for image in block.images] == list(tokens)
    assert (
        table["image"].tolist() == np.repeat(list(tokens), list(map(len, tokens.values()))).tolist()
    )
    reference = [run[image].read("value", layer, 1)[indices] for image, indices in tokens.items()]
    np.testing.assert_array_equal(block.values, np.concatenate(reference))
    assert 0 < len(block.values) < len(run.tokens())
    (image, *_) = tokens
    single = run.read("value", layer, 1, [image], category="cow").values
    np.testing.assert_array_equal(single, reference[0])
    choice: dict[str, Any] = {image: [3, 1], run.ids[-1]: slice(2)}
    picked = run.read("value", layer, 1, tokens=choice)
    assert [entry.id for entry in picked.images] == [image, run.ids[-1]]
    np.testing.assert_array_equal(picked.values[:2], run[image].read("value", layer, 1)[[3, 1]])


def test_a_label_map_that_cannot_be_used_costs_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run: Run = RUNS["co-segmentation"](tmp_path)
    tokens = class_tokens(run, "cow")
    dataset: Any = dataset_of(run)
    image, *usable = tokens
    path = dataset.truth_file(image)
    with Image.open(path) as mask:
        mask.resize((mask.width // 2, mask.height)).save(path)
    with caplog.at_level(logging.WARNING, "kvtool"):
        assert list(class_tokens(run, "cow")) == usable
    assert "class cow: left out: " in caplog.text


def test_bad_classes(tmp_path: Path) -> None:
    run: Run = RUNS["co-segmentation"](tmp_path / "a")
    layer = run.layers[0]
    with pytest.raises(UsageError, match=r"class 'caw': msrc has none .*; nearest: 'cow'"):
        run.read("value", layer, category="caw")
    with pytest.raises(UsageError, match="category: expected no tokens, rows or cols"):
        run.tokens(category="cow", rows=0)
    pairs: Run = RUNS["semantic-correspondence"](tmp_path / "b")
    with pytest.raises(UsageError, match="expected a data set with label maps, found spair71k"):
        pairs.read("value", pairs.layers[0], category="cat")

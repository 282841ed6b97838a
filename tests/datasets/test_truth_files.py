"""The files that a truth is read from: all of them are named, and a changed byte of any is another
truth.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kvtool.datasets import DATASETS, open_dataset
from kvtool.datasets.protocols import HasCaptions, HasConcepts
from kvtool.errors import DatasetError, KvtoolError
from tests.support import datasets as builders
from tests.support.trees import TREES, open_tree


def read_everything(dataset: Any) -> None:
    """All that a loader can be asked for."""
    dataset.images(), dataset.texts()
    if hasattr(dataset, "questions"):
        dataset.questions()
    for condition in dataset.about.conditions:
        for ref in dataset.images():
            try:
                dataset.prefix(ref.id, condition)
            except KvtoolError:
                continue  # not every image has a sentence or a caption
    for ask in (_ask_pairs, _ask_maps, _ask_groups, _ask_sentences, _ask_instances):
        ask(dataset)
    _ask_captions(dataset)
    _ask_concepts(dataset)


def _ask_pairs(dataset: Any) -> None:
    if hasattr(dataset, "pairs"):
        dataset.pairs()


def _ask_maps(dataset: Any) -> None:
    for units in ("entries", "videos", "labelled_ids"):
        if hasattr(dataset, units):
            getattr(dataset, units)()
    if hasattr(dataset, "label_map"):
        for ref in dataset.images():
            dataset.label_map(ref.id)


def _ask_groups(dataset: Any) -> None:
    if hasattr(dataset, "groups"):
        for category, images in dataset.groups().items():
            for image in images:
                dataset.group_mask(image, category)


def _ask_sentences(dataset: Any) -> None:
    if hasattr(dataset, "expressions"):
        for expression in dataset.expressions():
            dataset.object_mask(expression)


def _ask_instances(dataset: Any) -> None:
    if hasattr(dataset, "instances"):
        dataset.instances(dataset.images()[0].id)


def _ask_captions(dataset: Any) -> None:
    if isinstance(dataset, HasCaptions):
        assert dataset.captions()


def _ask_concepts(dataset: Any) -> None:
    images = dataset.images()
    if isinstance(dataset, HasConcepts):
        dataset.concepts()
        for image in images:
            with suppress(DatasetError):
                dataset.concept_masks(image.id)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are opened from now on, whichever way."""
    opened: list[str] = []

    def watched(function: Any) -> Any:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if not isinstance(path, int):
                # Links stay as they are.
                opened.append(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
            return function(path, *arguments, **options)

        return call

    for module in (builtins, io, os):
        monkeypatch.setattr(module, "open", watched(module.open))
    return opened


def test_every_data_set_is_tried() -> None:
    tried = {name.partition(" ")[0] for name in TREES}
    # Those of pictures alone have no truth.
    assert tried == set(DATASETS.names()) - {"folder", "scenes", "video"}


@pytest.mark.parametrize("name", TREES)
def test_what_a_loader_opens_is_a_truth_file_or_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = TREES[name](tmp_path)
    opened = watch(monkeypatch)
    dataset = open_tree(name, root)
    read_everything(dataset)
    below = {path for path in opened if path.startswith(f"{tmp_path}{os.sep}")}
    pictures = {str(ref.path) for ref in dataset.images()}
    paths = [str(path) for path in dataset.truth_files()]
    assert len(set(paths)) == len(paths)
    assert not pictures & set(paths)
    assert below - pictures <= set(paths)
    if name not in ("blink", "cvbench"):  # a library written in C++ opens those
        assert below - pictures == {path for path in paths if Path(path).exists()}
    assert dataset.truth_files() == open_tree(name, dataset.root or tmp_path).truth_files()


@pytest.mark.slow
@pytest.mark.parametrize("name", TREES)
def test_a_changed_byte_of_any_file_is_another_truth(tmp_path: Path, name: str) -> None:
    root = TREES[name](tmp_path)
    digest = open_tree(name, root).truth_digest()
    files = [path for path in open_tree(name, root).truth_files() if path.exists()]
    assert files
    seen = {digest}
    for path in files[:40]:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        seen.add(_digest(name, root))
        path.write_bytes(data + b"\n")
        seen.add(_digest(name, root))
        path.write_bytes(data)
        assert open_tree(name, root).truth_digest() == digest
    assert len(seen) == 1 + 2 * min(len(files), 40)


def _digest(name: str, root: Path) -> str:
    """The digest; a list that no longer reads has none, which is no answer for another truth
    either.
    """
    try:
        return open_tree(name, root).truth_digest()
    except DatasetError as error:
        return str(error)


@pytest.mark.parametrize("name", TREES)
def test_a_removed_file_is_another_truth_and_a_moved_data_set_the_same(
    tmp_path: Path, name: str
) -> None:
    root = TREES[name](tmp_path / "here")
    digest = open_tree(name, root).truth_digest()
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = tmp_path / "there" / root.relative_to(tmp_path / "here")
    assert open_tree(name, moved).truth_digest() == digest
    files = [path for path in open_tree(name, moved).truth_files() if path.exists()]
    files[-1].rename(moved / "set-aside")
    assert _digest(name, moved) != digest
    picture = next(
        (ref.path for ref in open_tree(name, root).images() if ref.path is not None), None
    )
    if picture is not None:
        picture.write_bytes(b"another picture")
        assert open_tree(name, root).truth_digest() == digest


def test_a_folder_has_no_truth(tmp_path: Path) -> None:
    builders.picture(tmp_path / "a/1.jpg")
    builders.picture(tmp_path / "b/2.jpg")
    first, second = (open_dataset(f"folder:{tmp_path}/{name}") for name in "ab")
    assert list(first.truth_files()) == []
    assert first.truth_digest() == second.truth_digest()


def test_files_that_may_come_count_before_they_are_there(tmp_path: Path) -> None:
    """Captions added later, or a list of names that is asked first, are another truth."""
    root = builders.refcoco(tmp_path / "refcoco")
    digest = open_dataset(f"refcoco:{root}").truth_digest()
    builders.captions(root)
    assert open_dataset(f"refcoco:{root}").truth_digest() != digest
    root = builders.imagenet_s(tmp_path / "imagenet-s")
    digest = open_dataset(f"imagenet-s:{root}").truth_digest()
    (root / "words.txt").rename(root / "ImageNetS50/words.txt")
    assert open_dataset(f"imagenet-s:{root}").truth_digest() != digest

"""Comparisons of prefixes that are refused, in one line each."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.errors import DatasetError, ModelError, UsageError
from kvtool.store import Store
from tests.support.prefixes import TASK, write_conditions
from tests.support.units import noise, write_run


@pytest.mark.slow
def test_requests_that_cannot_be_served(store: Store) -> None:
    with pytest.raises(
        UsageError, match=r"one of the tasks .*referring-expression.*; found 'co-segmentation'"
    ):
        kvtool.prefix(store, "co-segmentation")
    ask = partial(kvtool.prefix, store, TASK)
    with pytest.raises(
        UsageError, match="correct, random, incorrect, which spair71k offers, found 'right'"
    ):
        ask(conditions=["right"])
    with pytest.raises(UsageError, match="expected another one than none"):
        ask(conditions=["none"])
    with pytest.raises(UsageError, match="expected a text after the colon"):
        ask(prefix=["text: "])
    with pytest.raises(UsageError, match="expected the path of a CSV file"):
        ask(prefix=["file:"])
    with pytest.raises(UsageError, match="or file:CSV, found 'correct'"):
        ask(prefix=["correct"])
    with pytest.raises(
        UsageError, match="expected some of value, found projected; a prefix reaches the decoder"
    ):
        kvtool.prefix(store, "referring-expression", kinds=["projected"])
    with pytest.raises(UsageError, match="expected max or split"):
        ask(select="best")
    with pytest.raises(
        UsageError,
        match="option 'cutoff' is of semantic-segmentation and referring-expression alone",
    ):
        ask(cutoff="otsu")


@pytest.mark.slow
def test_requests_that_the_runs_cannot_serve(store: Store, root: Path, tmp_path: Path) -> None:
    ask = partial(kvtool.prefix, store, TASK)
    with pytest.raises(
        UsageError, match="run correct: expected the run without prefix, found 'correct'"
    ):
        ask(run="correct")
    with pytest.raises(UsageError, match="which cannot serve referring-expression"):
        kvtool.prefix(store, "referring-expression", run="none")
    with pytest.raises(
        UsageError,
        match="over imagenet-s or bdd10k or own, found runs: correct, incorrect, none, random; ",
    ):
        kvtool.prefix(store, "semantic-segmentation")
    with pytest.raises(
        UsageError, match="expected a run without prefix that holds key over spair71k"
    ):
        ask(kinds=["key"])
    with pytest.raises(
        ModelError,
        match=r"model 'planted': .*if run none's model moved, give its place with --model",
    ):
        ask(prefix=["text:a cat"])
    shutil.copytree(root, tmp_path / "changed")
    lines = (root / "Layout/large/test.txt").read_text().splitlines()
    (tmp_path / "changed/Layout/large/test.txt").write_text("\n".join(lines[:30]) + "\n")
    with pytest.raises(
        DatasetError, match="expected the images that run none holds, found 6 images gone"
    ):
        ask(data=tmp_path / "changed")


def test_requests_that_a_new_store_cannot_serve(root: Path, tmp_path: Path) -> None:
    empty = kvtool.store.open_store(tmp_path / "empty.kv", create=True)
    with pytest.raises(
        UsageError, match="found runs: none; give --model and --dataset spair71k:PATH to extract it"
    ):
        kvtool.prefix(empty, TASK)
    origin: dict[str, Any] = {"model": "demo", "dataset": f"spair71k:{root}"}
    with pytest.raises(
        UsageError,
        match="expected a data set that serves referring-expression, found one that serves",
    ):
        kvtool.prefix(empty, "referring-expression", **origin)
    with pytest.raises(UsageError, match="some of none, correct, random, incorrect"):
        kvtool.prefix(empty, TASK, conditions=["right"], **origin)
    assert empty.runs() == []


def test_several_runs_without_prefix_are_listed(tmp_path: Path, root: Path) -> None:
    store = write_conditions(tmp_path / "s.kv", root, {"none": noise(0)})
    samples = store.run("none").samples
    write_run(
        tmp_path / "s.kv",
        "spair71k",
        "test",
        root,
        samples,
        noise(1),
        name="other",
        model="another",
    )
    with pytest.raises(
        UsageError, match=r"expected one run .* or a name \(--run.*\), found runs: none, other"
    ):
        kvtool.prefix(store, TASK)

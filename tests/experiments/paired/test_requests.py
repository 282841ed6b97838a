"""Paired tasks that a store cannot serve, and requests that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool
import kvtool.models
from kvtool.errors import UsageError
from kvtool.store import Store, open_store
from tests.support.units import noise, sample, write_run

pytestmark = pytest.mark.slow


def bad_store(path: Path, scenes: Path, name: str) -> Store:
    folder = scenes / "blink" / "Art_Style"
    samples = [sample(str(i), i, (40, 30), (2, 2)) for i in range(3)]
    settings: dict[str, Any] = {
        "test": ("blink", "test", {}),
        "keys": ("blink", "val", {"kinds": ("key",)}),
        "other": ("coco", "val2014", {}),
        "foreign": ("blink", "val", {}),
    }
    if name == "none":
        return open_store(path, create=True)
    dataset, split, options = settings[name]
    write_run(path, dataset, split, folder, samples, noise(0), layers=2, **options)
    return open_store(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "none",
            r"store .* has no run; extract what it needs: "
            r"kvtool extract .* --model M --dataset blink:PATH@val",
        ),
        (
            "test",
            r"blink@test: answers hidden: use @val; extract what it needs: "
            r".* --dataset blink:PATH@val",
        ),
        ("other", r"is over coco, not blink; extract what it needs: .* --dataset blink:PATH@val"),
        ("keys", r"expected values, found key; extract with --kinds value among them"),
        (
            "foreign",
            r"expected questions of Art_Style about images that run .* holds, "
            r"found none \(question val_Art",
        ),
    ],
)
def test_runs_that_cannot_serve_say_what_to_extract(
    tmp_path: Path, scenes: Path, name: str, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        kvtool.paired(bad_store(tmp_path / "s.kv", scenes, name), "art-style")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "options", "expected"),
    [
        (
            "counting",
            {},
            "unknown task 'counting'; known: semantic-correspondence, art-style, "
            "visual-similarity, rel",
        ),
        ("art-style", {"select": "best"}, "select: expected max or split, found 'best'"),
        ("art-style", {"n": 0}, "n: expected a whole number from 1 "),
        (
            "art-style",
            {"folds": 3},
            "paired art-style: no option folds here; it takes: none of its own",
        ),
        ("art-style", {"pictures": "x"}, "no option pictures here"),
        ("relative-depth", {"reading": "pck"}, "no option reading here; it takes: folds, c"),
        ("relative-depth", {"folds": 1}, "folds: expected a whole number from 2 "),
        (
            "semantic-correspondence",
            {"reading": "both"},
            "reading: expected choice or pck, found 'both'",
        ),
        ("visual-similarity", {}, "expected questions of Visual_Similarity"),
        ("art-style", {"n": 1, "select": "split"}, "expected two questions or more, found one"),
        ("art-style", {"run": "nowhere"}, "no run 'nowhere'"),
    ],
)
def test_bad_requests(store: Store, task: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        kvtool.paired(store, task, **options)


@pytest.mark.slow
def test_asking_about_one_image_needs_its_whole_cache(
    tmp_path: Path, scenes: Path, tiny_model: Path
) -> None:
    spec = f"blink:{scenes}/blink/Relative_Depth@val"
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=spec, kinds=("value",))
    with pytest.raises(
        UsageError, match=r"expected keys and values of every layer, .* found value of 3 layers"
    ):
        kvtool.paired(tmp_path / "s.kv", "relative-depth")
    kvtool.extract(
        tmp_path / "s.kv", model=str(tiny_model), dataset=spec, kinds=("key", "value"), run="whole"
    )
    with pytest.raises(
        UsageError, match=r"one run or a name \(--run, .*\), found runs that serve it: .*whole"
    ):
        kvtool.paired(tmp_path / "s.kv", "relative-depth")
    result = kvtool.paired(tmp_path / "s.kv", "relative-depth", run="whole", max_new_tokens=2)
    assert result.n == 12

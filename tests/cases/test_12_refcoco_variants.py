"""RefCOCO with other names, types and damage: what is broken is left out and named, in bounded
memory.
"""

from __future__ import annotations

import json
import pickle
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cases.outcomes import change_json, refusal, rows, told
from tests.support import datasets as builders
from tests.support.shell import Outcome, Shell

REFS, INSTANCES = "refcoco/refs(unc).p", "refcoco/instances.json"
BROKEN_ID = 100
"""The annotation that the cases break; one of the three sentences is of it."""
SENTENCES = 3
MEMORY_BYTES = 2 << 30
"""More than this a case may not take beyond what the process has at its start."""
Change = Callable[[Path], object]
Commands = Callable[[Change], tuple[Outcome, Outcome]]


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + MEMORY_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def change_refs(root: Path, change: Callable[[list[Any]], list[Any]], protocol: int = 2) -> None:
    path = root / REFS
    path.write_bytes(pickle.dumps(change(pickle.loads(path.read_bytes())), protocol=protocol))


def first_ref(**fields: Any) -> Change:
    """The first expression with other fields."""
    return lambda root: change_refs(root, lambda refs: [refs[0] | fields, *refs[1:]])


def instances(change: Callable[[Any], object]) -> Change:
    return lambda root: change_json(root / INSTANCES, change)


def annotation(change: Callable[[Any], object]) -> Change:
    """The broken annotation, changed."""
    return instances(lambda tree: [change(a) for a in tree["annotations"] if a["id"] == BROKEN_ID])


def segmentation(value: Any, **fields: Any) -> Change:
    return annotation(lambda a: a.update(segmentation=value, **fields))


@pytest.fixture
def commands(shell: Shell, tiny_model: Path, tmp_path: Path) -> Commands:
    """Extract the data set after a change, and probe it where there is a run."""

    def run(change: Change) -> tuple[Outcome, Outcome]:
        data, store = tmp_path / "data", tmp_path / "s.kv"
        builders.refcoco(data)
        # Two of the builder's expressions lack their annotation and their picture.
        change_refs(data, lambda refs: [ref for ref in refs if ref["ref_id"] < 3])
        change(data)
        source = ("--model", tiny_model, "--dataset", f"refcoco:{data}")
        extracted = shell("extract", store, *source, "--kinds", "value", "--layers", 0)
        if extracted[0]:
            return extracted, extracted
        return extracted, shell("probe", store, "referring-expression", "--format", "json")

    return run


SPARED: dict[str, Change] = {
    "as released": lambda _: None,
    "an old pickle": lambda root: change_refs(root, list, protocol=0),
    "a category without a name": instances(lambda tree: tree["categories"].append({"id": 999})),
    "widths as texts": instances(
        lambda tree: [image.update(height=str(image["height"])) for image in tree["images"]]
    ),
    "files below their folder": instances(
        lambda tree: [
            image.update(file_name=f"train2014/{image['file_name']}") for image in tree["images"]
        ]
    ),
    "markup": first_ref(
        sentences=[
            {"sent_id": i, "raw": text, "sent": text, "tokens": text.split()}
            for i, text in enumerate(("[red]left[/red] <b>dog</b> <image> \x1b[31m", "the dog"))
        ]
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SPARED)
def test_what_can_be_read_counts(commands: Commands, case: str) -> None:
    extracted, probed = commands(SPARED[case])
    assert rows(extracted)[0]["extracted"] == 2
    assert rows(probed)[0]["n"] == SENTENCES
    assert not any("\x1b" in line for line in (*extracted[2], *probed[2]))


BROKEN: dict[str, tuple[Change, str]] = {
    "no polygon": (segmentation([]), "that enclose pixels, found none"),
    "two points": (segmentation([[1, 2, 3, 4]]), "that enclose pixels, found none"),
    "odd": (segmentation([[1, 2, 30, 4, 30, 40, 9]]), "in place of a polygon [x, y, x, y, ...]"),
    "NaN": (
        segmentation([[1, 2, float("nan"), 4, 30, 40]]),
        "points that are not finite, or far outside",
    ),
    "far outside": (
        segmentation([[1, 2, 1e9, 2, 1e9, 1e9]]),
        "points that are not finite, or far outside",
    ),
    "run lengths of another size": (
        segmentation({"size": [10, 10], "counts": [100]}, iscrowd=1),
        "a mask of [10, 10]",
    ),
    "no segmentation": (
        annotation(lambda a: a.pop("segmentation")),
        "expected the fields segmentation",
    ),
    "no annotation": (
        instances(
            lambda t: t.update(annotations=[a for a in t["annotations"] if a["id"] != BROKEN_ID])
        ),
        f"no annotation {BROKEN_ID} with an image",
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("bounded_memory")
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_annotation_is_left_out_and_named(commands: Commands, case: str) -> None:
    change, words = BROKEN[case]
    _, probed = commands(change)
    err = told(probed, 4, words)
    assert any(str(BROKEN_ID) in line and "refcoco/" in line for line in err)
    assert json.loads(probed[1])["n"] == SENTENCES - 1


@pytest.mark.slow
def test_an_annotation_without_an_id_is_named(commands: Commands) -> None:
    _, probed = commands(instances(lambda tree: tree["annotations"].append({"image_id": 1})))
    told(probed, 4, "instances.json: annotations: item 3: expected the fields id, found image_id")
    assert json.loads(probed[1])["n"] == SENTENCES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sentences", "words", "left"),
    [
        (
            [{"sent_id": 0, "raw": "", "sent": "", "tokens": []}],
            "ref 0: sentence 0: expected sent to be a text",
            1,
        ),
        ([], "ref 0: expected sentences, found []", 1),
    ],
)
def test_sentences_that_are_none_are_left_out(
    commands: Commands, sentences: Any, words: str, left: int
) -> None:
    extracted, probed = commands(first_ref(sentences=sentences))
    told(extracted, 0, words)
    told(probed, 4, words)
    assert json.loads(probed[1])["n"] == left


@pytest.mark.slow
def test_expressions_listed_twice_count_once(commands: Commands) -> None:
    _, probed = commands(lambda root: change_refs(root, lambda refs: refs + refs))
    told(probed, 0, "sentences are listed twice and count once")
    assert json.loads(probed[1])["n"] == SENTENCES


def renamed(old: str, new: str) -> Change:
    return lambda root: (root / old).rename(root / new)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed("refcoco", "refcoco+"), "found images/, refcoco+/"),
        (renamed(REFS, "refcoco/refs(google).p"), "refs(google).p"),
        (renamed("refcoco", "refcocog"), "found images/, refcocog/"),
        (first_ref(ref_id=np.int64(0)), "expected a pickle of plain lists and dicts"),
    ],
)
def test_siblings_and_foreign_types_are_one_line(
    commands: Commands, change: Change, words: str
) -> None:
    assert words in refusal(commands(change)[0])

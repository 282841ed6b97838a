"""`kvtool score` and bad input: one line that names the place, and never a wrong number or a
traceback.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import datasets as builders
from tests.support.datasets import id_png, label_png, write_text
from tests.support.shell import Shell

Make = Callable[[Path], list[Any]]


def davis_case(change: Callable[[Path], object]) -> Make:
    """Predictions equal to the annotations, but for `change`, which gets their folder."""

    def make(tmp: Path) -> list[Any]:
        data = builders.davis(tmp / "DAVIS")
        shutil.copytree(data / "Annotations/480p", tmp / "results")
        label_png(tmp / "results/two/00001.png", np.zeros((24, 32)))
        label_png(tmp / "results/two/00002.png", np.zeros((24, 32)))
        change(tmp / "results")
        return ["davis", "--data", data, "--results", tmp / "results"]

    return make


def bdd_case(change: Callable[[Path], object], *flags: object) -> Make:
    def make(tmp: Path) -> list[Any]:
        data = builders.bdd10k(tmp / "bdd")
        shutil.copytree(data / "labels/sem_seg/masks/val", tmp / "results")
        change(tmp)
        return ["bdd10k", "--data", data, "--results", tmp / "results", *flags]

    return make


def imagenet_case(change: Callable[[Path], object], classes: int = 50) -> Make:
    def make(tmp: Path) -> list[Any]:
        data = builders.imagenet_s(tmp / "data")
        shutil.copytree(data / "ImageNetS50/validation-segmentation", tmp / "results")
        change(tmp)
        return ["imagenet-s", "--data", data, "--results", tmp / "results", "--classes", classes]

    return make


def answers_case(name: str, content: str | bytes) -> Make:
    def make(tmp: Path) -> list[Any]:
        path = tmp / "a.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [name, "--answers", tmp if name == "mme" else path]

    return make


def pair(**changes: Any) -> str:
    """A line of spair answers; a change of None takes the field away."""
    record = builders.pair_record("a", "b", "dog") | {"prd_kps": [[6, 7], [10.5, 12]]} | changes
    return json.dumps({name: value for name, value in record.items() if value is not None}) + "\n"


def nothing(_: Path) -> None:
    """The case is in the arguments."""


def emptied(tmp: Path) -> None:
    shutil.rmtree(tmp / "results")
    (tmp / "results").mkdir()


def first_map(tmp: Path) -> Path:
    return next((tmp / "results").glob("*/*.png"))


YES = '{"answer": "Yes", "label": "yes"}\n'
MME = "a.jpg\tIs it?\tYes\tyes\na.jpg\tIs it not?\tNo\tno\n"

BAD: dict[str, tuple[Make, int, str]] = {
    "davis: no "
    "results": (davis_case(shutil.rmtree), 1, r"results: expected a folder with .* found nothing there"),
    "davis: no "
    "data": (lambda tmp: ["davis", "--data", tmp / "no", "--results", tmp], 1, r"/no: expected a folder"),
    "davis: no "
    "sequence": (davis_case(lambda r: shutil.rmtree(r / "two")), 1, r"expected a folder two/ with the masks"),
    "davis: no "
    "frame": (davis_case(lambda r: (r / "gone/00002.png").unlink()), 1, r"gone/00002.png: expected the mask"),
    "davis: size": (
        davis_case(lambda r: label_png(r / "gone/00001.png", np.zeros((8, 9)))),
        1,
        r"gone/00001.png: expected 32 x 24 pixels as its annotation has, found 9 x 8",
    ),
    "davis: id": (
        davis_case(lambda r: label_png(r / "gone/00002.png", np.full((24, 32), 2))),
        1,
        r"gone/00002.png: expected ids 0 to 1, the objects of gone's first annotation, found 2",
    ),
    "davis: void": (
        davis_case(lambda r: label_png(r / "gone/00002.png", np.full((24, 32), 255))), 1, r"expected ids 0 to 1.* 255",
    ),
    "davis: no "
    "image": (davis_case(lambda r: write_text(r / "two/00001.png", "x")), 1, r"00001.png: expected a mask"),
    "bdd: no results": (bdd_case(lambda t: shutil.rmtree(t / "results")), 1, r"results: expected a folder"),
    "bdd: all missing": (
        bdd_case(emptied),
        1,
        r"expected label maps such as .*\.png, found an empty folder",
    ),
    "bdd: size": (
        bdd_case(lambda t: label_png(t / "results/day1.png", np.zeros((24, 30)))),
        1,
        r"day1.png: expected 32 x 24 pixels as its ground truth has, found 30 x 24",
    ),
    "bdd: colours": (bdd_case(lambda t: id_png(t / "results/day1.png", np.zeros((24, 32)))), 1, r"found mode RGB"),
    "bdd: ignored only": (
        bdd_case(
            lambda t: [
                label_png(p, np.full((24, 32), 255)) for p in (t / "bdd/labels/sem_seg/masks/val").glob("*.png")
            ]
        ),
        1,
        r"expected pixels of some class in the ground truth",
    ),
    "bdd: no truth": (bdd_case(nothing, "--split", "train"), 1, r"expected label maps .*/masks/train/, found"),
    "imagenet-s: "
    "classes": (imagenet_case(nothing, 51), 2, r"ImageNet-S has 50, 300 or 919, not 51"),
    "imagenet-s: other size": (imagenet_case(nothing, 300), 2, r"is ImageNet-S50, not 300"),
    "imagenet-s: mode": (
        imagenet_case(lambda t: label_png(first_map(t), np.zeros((24, 32)), palette=False)),
        1,
        r"expected a colour-coded map \(RGB\), found mode L",
    ),
    "imagenet-s: size": (
        imagenet_case(lambda t: id_png(first_map(t), np.zeros((25, 32)))), 1, r"expected 32 x 24 .* found 32 x 25",
    ),
    "spair: no "
    "file": (lambda tmp: ["spair", "--answers", tmp / "no"], 1, r"no: expected a text file, found nothing"),
    "spair: empty": (answers_case("spair", "\n"), 1, r"a.txt: expected one JSON object a line.* found none"),
    "spair: malformed": (answers_case("spair", pair() + "\n{,}\n"), 1, r"a.txt:3: expected JSON, found: Expecting"),
    "spair: malformed list": (answers_case("spair", "[\n{},\n{]"), 1, r"a.txt:3: expected JSON"),
    "spair: deep": (answers_case("spair", '{"a":' * 100_000), 1, r"a.txt:1: expected JSON"),
    "spair: no "
    "object": (answers_case("spair", pair() + "3\n"), 1, r"a.txt:2: expected a JSON object, found 3"),
    "spair: NaN": (answers_case("spair", '{"prd_kps": [[NaN, 1]]}'), 1, r"a.txt:1: .* NaN, which is no JSON number"),
    "spair: no "
    "field": (answers_case("spair", pair(trg_bndbox=None)), 1, r"a.txt:1: .* no trg_bndbox among"),
    "spair: count": (
        answers_case("spair", pair(trg_kps=[[1, 2]])), 1, r":1: expected as many prd_kps as trg_kps, found 2 for 1",
    ),
    "spair: no point": (
        answers_case("spair", pair(trg_kps=[[1, 2], [1, None]])), 1, r"trg_kps\[1\] to be 2 numbers, found \[1",
    ),
    "spair: no "
    "points": (answers_case("spair", pair(trg_kps=3)), 1, r"trg_kps to be a list of points, found int"),
    "spair: box": (answers_case("spair", pair(trg_bndbox=[5, 5, 2, 9])), 1, r"expected trg_bndbox as x1, y1, x2, y2"),
    "spair: category": (answers_case("spair", pair(category=4)), 1, r"expected category to be a text, found 4"),
    "spair: no "
    "keypoints": (answers_case("spair", pair(trg_kps=[], prd_kps=[])), 1, r"none of 1; .* no keypoint"),
    "pope: no file": (lambda _: ["pope"], 2, r"--answers: expected one file or more, found none"),
    "pope: twice": (lambda tmp: ["pope", "--answers", tmp / "a", tmp / "a"], 2, r"expected each file once"),
    "pope: empty": (answers_case("pope", "[]"), 1, r"a.txt: expected one JSON object a line.* found none"),
    "pope: no answer": (answers_case("pope", YES + '{"label": "no"}'), 1, r"a.txt:2: .* no answer among label"),
    "pope: no label": (answers_case("pope", '[{"answer": "No"}]'), 1, r"a.txt: item 1: .* no label among answer"),
    "pope: label": (answers_case("pope", '{"answer": "No", "label": "No"}'), 1, r":1: expected label yes or no.*'No'"),
    "pope: answer": (answers_case("pope", '{"answer": null, "label": "no"}'), 1, r":1: expected answer to be a text"),
    "pope: bytes": (answers_case("pope", b"\xff\xfe"), 1, r"expected UTF-8"),
    "mme: no folder": (lambda tmp: ["mme", "--answers", tmp / "no"], 1, r"no: expected a folder with MME's"),
    "mme: no files": (lambda tmp: ["mme", "--answers", tmp], 1, r"expected <subset>.txt files, found an empty folder"),
    "mme: empty": (answers_case("mme", ""), 1, r"a.txt:1: expected image TAB .* found 0"),
    "mme: tabs": (answers_case("mme", MME + MME.replace("Is it?", "Is\tit?")), 1, r"a.txt:3: .* 3 tabs, found 4"),
    "mme: odd": (answers_case("mme", MME + "b.jpg\tIs it?\tYes\tyes\n"), 1, r":4: .* on image b.jpg, found the end"),
    "mme: no pair": (
        answers_case("mme", MME + MME.replace("a.jpg\tIs it not", "c.jpg\tIs it not")),
        1,
        r"a.txt:4: expected a second question on image a.jpg, found image c.jpg",
    ),
    "mme: truth": (answers_case("mme", MME.replace("\tNo\t", "\tMaybe\t")), 1, r"a.txt:2: .* Yes or No, found 'Maybe'"),
}  # fmt: skip


TRUTH: dict[str, tuple[Make, int, str]] = {
    "davis: absent": (
        davis_case(lambda r: (r.parent / "DAVIS/Annotations/480p/two/00003.png").unlink()), 1, "no annotation of frame",
    ),
    "davis: no image": (
        davis_case(lambda r: write_text(r.parent / "DAVIS/Annotations/480p/two/00001.png", "x")), 1, "two/00001.png",
    ),
    "davis: size": (
        davis_case(lambda r: label_png(r.parent / "DAVIS/Annotations/480p/two/00002.png", np.zeros((8, 9)))),
        1,
        "two/00002.png: expected 32 x 24 pixels as the first annotation",
    ),
    "bdd: ids": (
        bdd_case(lambda t: label_png(t / "bdd/labels/sem_seg/masks/val/day1.png", np.full((24, 32), 33))),
        5,
        "day1.png: expected train ids 0-18 and 255, found 33",
    ),
    "bdd: no image": (bdd_case(lambda t: write_text(t / "bdd/labels/sem_seg/masks/val/day1.png", "x")), 5, "day1.png"),
    "imagenet-s: ids": (
        imagenet_case(lambda t: id_png(next(t.glob("data/*/validation-seg*/*/*.png")), np.full((24, 32), 700))),
        49,
        "expected ids 0 to 50 and 1000 as R + 256 G, found 700",
    ),
    "imagenet-s: no image": (
        imagenet_case(lambda t: write_text(next(t.glob("data/*/validation-seg*/*/*.png")), "x")), 49, ".png: expected",
    ),
    "spair: box": (answers_case("spair", pair() + pair(trg_bndbox=[5, 5, 2, 9])), 1, "a.txt:2: expected trg_bndbox"),
    "spair: field": (answers_case("spair", pair() + pair(trg_kps=None)), 1, "a.txt:2: expected the fields"),
    "pope: label": (answers_case("pope", YES + '{"answer": "No", "label": "maybe"}'), 1, "a.txt:2: expected label yes"),
    "pope: no label": (answers_case("pope", YES + '{"answer": "No"}'), 1, "a.txt:2: expected label yes or no"),
    "pope: a list": (answers_case("pope", YES + '{"answer": "No", "label": []}'), 1, "a.txt:2: expected label yes"),
    "mme: truth": (
        answers_case("mme", MME + MME.replace("a.jpg", "b.jpg").replace("\tNo\t", "\tMaybe\t")), 1, "a.txt:4: expected",
    ),
}  # fmt: skip
"""Truth that cannot be used: how many units are left to be scored, and what the line says."""


@pytest.mark.parametrize("case", TRUTH)
def test_truth_that_cannot_be_used_is_left_out_named_and_counted(
    score: Shell, tmp_path: Path, case: str
) -> None:
    make, n_scored, message = TRUTH[case]
    code, out, err = score(*make(tmp_path), "--format", "json")
    result = json.loads(out)
    assert (code, result["n"]) == (4, n_scored)
    assert any(message in line for line in err[:-1]), err
    assert f"{result['n_skipped']} " in err[-1]
    assert f"{n_scored} scored" in err[-1]


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(score: Shell, tmp_path: Path, case: str) -> None:
    make, status, message = BAD[case]
    arguments = make(tmp_path)
    code, out, err = score(*arguments)
    assert (code, out) == (status, "")
    assert len(err) == 1
    assert err[0].startswith("kvtool: ")
    assert re.search(message, err[0]), err[0]


def test_missing_maps_are_misses_and_counted(score: Shell, tmp_path: Path) -> None:
    arguments = bdd_case(lambda t: (t / "results/day1.png").unlink())(tmp_path)
    first = json.loads(score(*arguments, "--format", "json")[1])["rows"][0]
    assert (first["n"], first["n_missing"]) == (6, 1)
    assert first["miou"] == pytest.approx(5 / 6)
    code, _, err = score(*arguments)
    assert code == 0
    assert [
        line.endswith("results/day1.png: no such file; its pixels count as misses") for line in err
    ] == [True]

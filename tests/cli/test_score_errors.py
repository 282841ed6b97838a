"""`kvtool score` and bad input: one line that names the place, and never a wrong number or a
traceback.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.score_cases import (
    MME,
    YES,
    Make,
    answers_case,
    bdd_case,
    davis_case,
    emptied,
    first_map,
    imagenet_case,
    nothing,
    pair,
)
from tests.support.datasets import id_png, label_png, write_text
from tests.support.shell import Shell

BAD: dict[str, tuple[Make, int, str]] = {
    "davis: no results": (
        davis_case(shutil.rmtree), 1, r"results: expected a folder with .* found nothing there",
    ),
    "davis: no data": (
        lambda tmp: ["davis", "--data", tmp / "no", "--results", tmp], 1, r"/no: expected a folder",
    ),
    "davis: no sequence": (
        davis_case(lambda r: shutil.rmtree(r / "two")), 1, r"expected a folder two/ with the masks",
    ),
    "davis: no frame": (
        davis_case(lambda r: (r / "gone/00002.png").unlink()), 1,
        r"gone/00002.png: expected the mask",
    ),
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
        davis_case(lambda r: label_png(r / "gone/00002.png", np.full((24, 32), 255))), 1,
        r"expected ids 0 to 1.* 255",
    ),
    "davis: no image": (
        davis_case(lambda r: write_text(r / "two/00001.png", "x")), 1,
        r"00001.png: expected a mask",
    ),
    "bdd: no results": (
        bdd_case(lambda t: shutil.rmtree(t / "results")), 1, r"results: expected a folder",
    ),
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
    "bdd: colours": (
        bdd_case(lambda t: id_png(t / "results/day1.png", np.zeros((24, 32)))), 1,
        r"found mode RGB",
    ),
    "bdd: ignored only": (
        bdd_case(
            lambda t: [
                label_png(p, np.full((24, 32), 255))
                for p in (t / "bdd/labels/sem_seg/masks/val").glob("*.png")
            ]
        ),
        1,
        r"expected pixels of some class in the ground truth",
    ),
    "bdd: no truth": (
        bdd_case(nothing, "--split", "train"), 1, r"expected label maps .*/masks/train/, found",
    ),
    "imagenet-s: "
    "classes": (imagenet_case(nothing, 51), 2, r"ImageNet-S has 50, 300 or 919, not 51"),
    "imagenet-s: other size": (imagenet_case(nothing, 300), 2, r"is ImageNet-S50, not 300"),
    "imagenet-s: mode": (
        imagenet_case(lambda t: label_png(first_map(t), np.zeros((24, 32)), palette=False)),
        1,
        r"expected a colour-coded map \(RGB\), found mode L",
    ),
    "imagenet-s: size": (
        imagenet_case(lambda t: id_png(first_map(t), np.zeros((25, 32)))), 1,
        r"expected 32 x 24 .* found 32 x 25",
    ),
    "spair: no file": (
        lambda tmp: ["spair", "--answers", tmp / "no"], 1,
        r"no: expected a text file, found nothing",
    ),
    "spair: empty": (
        answers_case("spair", "\n"), 1, r"a.txt: expected one JSON object a line.* found none",
    ),
    "spair: malformed": (
        answers_case("spair", pair() + "\n{,}\n"), 1, r"a.txt:3: expected JSON, found: Expecting",
    ),
    "spair: malformed list": (answers_case("spair", "[\n{},\n{]"), 1, r"a.txt:3: expected JSON"),
    "spair: deep": (answers_case("spair", '{"a":' * 100_000), 1, r"a.txt:1: expected JSON"),
    "spair: no object": (
        answers_case("spair", pair() + "3\n"), 1, r"a.txt:2: expected a JSON object, found 3",
    ),
    "spair: NaN": (
        answers_case("spair", '{"prd_kps": [[NaN, 1]]}'), 1,
        r"a.txt:1: .* NaN, which is no JSON number",
    ),
    "spair: no field": (
        answers_case("spair", pair(trg_bndbox=None)), 1, r"a.txt:1: .* no trg_bndbox among",
    ),
    "spair: count": (
        answers_case("spair", pair(trg_kps=[[1, 2]])), 1,
        r":1: expected as many prd_kps as trg_kps, found 2 for 1",
    ),
    "spair: no point": (
        answers_case("spair", pair(trg_kps=[[1, 2], [1, None]])), 1,
        r"trg_kps\[1\] to be 2 numbers, found \[1",
    ),
    "spair: no points": (
        answers_case("spair", pair(trg_kps=3)), 1, r"trg_kps to be a list of points, found int",
    ),
    "spair: box": (
        answers_case("spair", pair(trg_bndbox=[5, 5, 2, 9])), 1,
        r"expected trg_bndbox as x1, y1, x2, y2",
    ),
    "spair: category": (
        answers_case("spair", pair(category=4)), 1, r"expected category to be a text, found 4",
    ),
    "spair: no keypoints": (
        answers_case("spair", pair(trg_kps=[], prd_kps=[])), 1, r"none of 1; .* no keypoint",
    ),
    "pope: no file": (lambda _: ["pope"], 2, r"--answers: expected one file or more, found none"),
    "pope: twice": (
        lambda tmp: ["pope", "--answers", tmp / "a", tmp / "a"], 2, r"expected each file once",
    ),
    "pope: empty": (
        answers_case("pope", "[]"), 1, r"a.txt: expected one JSON object a line.* found none",
    ),
    "pope: no answer": (
        answers_case("pope", YES + '{"label": "no"}'), 1, r"a.txt:2: .* no answer among label",
    ),
    "pope: no label": (
        answers_case("pope", '[{"answer": "No"}]'), 1, r"a.txt: item 1: .* no label among answer",
    ),
    "pope: label": (
        answers_case("pope", '{"answer": "No", "label": "No"}'), 1,
        r":1: expected label yes or no.*'No'",
    ),
    "pope: answer": (
        answers_case("pope", '{"answer": null, "label": "no"}'), 1,
        r":1: expected answer to be a text",
    ),
    "pope: bytes": (answers_case("pope", b"\xff\xfe"), 1, r"expected UTF-8"),
    "mme: no folder": (
        lambda tmp: ["mme", "--answers", tmp / "no"], 1, r"no: expected a folder with MME's",
    ),
    "mme: no files": (
        lambda tmp: ["mme", "--answers", tmp], 1,
        r"expected <subset>.txt files, found an empty folder",
    ),
    "mme: empty": (answers_case("mme", ""), 1, r"a.txt:1: expected image TAB .* found 0"),
    "mme: tabs": (
        answers_case("mme", MME + MME.replace("Is it?", "Is\tit?")), 1,
        r"a.txt:3: .* 3 tabs, found 4",
    ),
    "mme: odd": (
        answers_case("mme", MME + "b.jpg\tIs it?\tYes\tyes\n"), 1,
        r":4: .* on image b.jpg, found the end",
    ),
    "mme: no pair": (
        answers_case("mme", MME + MME.replace("a.jpg\tIs it not", "c.jpg\tIs it not")),
        1,
        r"a.txt:4: expected a second question on image a.jpg, found image c.jpg",
    ),
    "mme: truth": (
        answers_case("mme", MME.replace("\tNo\t", "\tMaybe\t")), 1,
        r"a.txt:2: .* Yes or No, found 'Maybe'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.slow
def test_bad_input_is_one_line(score: Shell, tmp_path: Path, case: str) -> None:
    make, status, message = BAD[case]
    arguments = make(tmp_path)
    code, out, err = score(*arguments)
    assert (code, out) == (status, "")
    assert len(err) == 1
    assert err[0].startswith("kvtool: ")
    assert re.search(message, err[0]), err[0]


@pytest.mark.slow
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

"""Truth of `kvtool score` that cannot be used is left out, named and counted."""

from __future__ import annotations

import json
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
    imagenet_case,
    pair,
)
from tests.support.datasets import id_png, label_png, write_text
from tests.support.shell import Shell

DAVIS_TRUTH = Path("DAVIS/Annotations/480p/two")
BDD_TRUTH = Path("bdd/labels/sem_seg/masks/val")


def imagenet_truth(folder: Path) -> Path:
    """The first map of ImageNet-S below a folder."""
    return next(folder.glob("data/*/validation-seg*/*/*.png"))


TRUTH: dict[str, tuple[Make, int, str]] = {
    "davis: absent": (
        davis_case(lambda r: (r.parent / DAVIS_TRUTH / "00003.png").unlink()), 1,
        "no annotation of frame",
    ),
    "davis: no image": (
        davis_case(lambda r: write_text(r.parent / DAVIS_TRUTH / "00001.png", "x")), 1,
        "two/00001.png",
    ),
    "davis: size": (
        davis_case(lambda r: label_png(r.parent / DAVIS_TRUTH / "00002.png", np.zeros((8, 9)))),
        1,
        "two/00002.png: expected 32 x 24 pixels as the first annotation",
    ),
    "bdd: ids": (
        bdd_case(lambda t: label_png(t / BDD_TRUTH / "day1.png", np.full((24, 32), 33))),
        5,
        "day1.png: expected train ids 0-18 and 255, found 33",
    ),
    "bdd: no image": (
        bdd_case(lambda t: write_text(t / BDD_TRUTH / "day1.png", "x")), 5,
        "day1.png",
    ),
    "imagenet-s: ids": (
        imagenet_case(lambda t: id_png(imagenet_truth(t), np.full((24, 32), 700))),
        49,
        "expected ids 0 to 50 and 1000 as R + 256 G, found 700",
    ),
    "imagenet-s: no image": (
        imagenet_case(lambda t: write_text(imagenet_truth(t), "x")), 49,
        ".png: expected",
    ),
    "spair: box": (
        answers_case("spair", pair() + pair(trg_bndbox=[5, 5, 2, 9])), 1,
        "a.txt:2: expected trg_bndbox",
    ),
    "spair: field": (
        answers_case("spair", pair() + pair(trg_kps=None)), 1, "a.txt:2: expected the fields",
    ),
    "pope: label": (
        answers_case("pope", YES + '{"answer": "No", "label": "maybe"}'), 1,
        "a.txt:2: expected label yes",
    ),
    "pope: no label": (
        answers_case("pope", YES + '{"answer": "No"}'), 1, "a.txt:2: expected label yes or no",
    ),
    "pope: a list": (
        answers_case("pope", YES + '{"answer": "No", "label": []}'), 1,
        "a.txt:2: expected label yes",
    ),
    "mme: truth": (
        answers_case("mme", MME + MME.replace("a.jpg", "b.jpg").replace("\tNo\t", "\tMaybe\t")), 1,
        "a.txt:4: expected",
    ),
}  # fmt: skip
"""Truth that cannot be used: how many units are left to be scored, and what the line says."""


@pytest.mark.parametrize("case", TRUTH)
@pytest.mark.sampled
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

"""Pictures that are tiny, very long, or long under a small budget of pixels, through every
family.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cases.outcomes import change_json, copied, rows, told
from tests.support import tiny
from tests.support.shell import Shell

SIZES = (
    (1, 1),
    (1, 200),
    (200, 1),
    (31, 639),
    (2, 401),
    (5, 1000),
    (27, 27),
    (28, 5600),
    (13, 14),
    (1399, 7),
)
TOO_LONG = "w2_h401.png"
"""Its sides are 200.5 to one, and Qwen's processor takes up to 200."""
TOKEN_PIXELS = 8 * 8
BUDGETS = {"usual": None, "small": (4, 20), "minimum above maximum": (50, 20)}
"""Tokens of a picture, at least and at most."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    for width, height in SIZES:
        Image.new("RGB", (width, height), (200, 30, 60)).save(folder / f"w{width}_h{height}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("budget", BUDGETS)
def test_qwen_names_the_one_that_is_too_long(
    shell: Shell, qwen: Path, shapes: Path, tmp_path: Path, budget: str
) -> None:
    model = copied(qwen, tmp_path / "model")
    if (tokens := BUDGETS[budget]) is not None:
        minimum, maximum = (TOKEN_PIXELS * count for count in tokens)
        change_json(
            model / "preprocessor_config.json",
            lambda settings: (
                settings.pop("size"),
                settings.update(min_pixels=minimum, max_pixels=maximum),
            ),
        )
    outcome = shell(
        "-q", "extract", tmp_path / "s.kv", "--model", model, "--dataset", f"folder:{shapes}"
    )
    told(outcome, 4, TOO_LONG)
    assert json.loads(outcome[1])["extracted"] == len(SIZES) - 1


@pytest.mark.parametrize("view", ["base", "full"])
@pytest.mark.parametrize("family", [tiny.llava_onevision, tiny.llava_next])
@pytest.mark.slow
def test_the_others_take_all(
    shell: Shell, shapes: Path, tmp_path: Path, family: Callable[[Path], Path], view: str
) -> None:
    model = family(tmp_path / "model")
    command = (
        "-q",
        "extract",
        tmp_path / "s.kv",
        "--model",
        model,
        "--dataset",
        f"folder:{shapes}",
        "--view",
        view,
    )
    assert rows(shell(*command))[0]["extracted"] == len(SIZES)

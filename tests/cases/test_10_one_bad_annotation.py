"""One photograph turned by its EXIF, or one mask cut off: left out, named and counted, and the
probe goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.cases.outcomes import told
from tests.support import breaking
from tests.support import datasets as builders
from tests.support.shell import Shell


@dataclass(frozen=True)
class Case:
    """A data set, the task that scores it, and the places of one of its photographs and of one of
    its masks.
    """

    build: Callable[[Path], Path]
    task: str
    photograph: str
    mask: str = ""
    options: tuple[str, ...] = ()


CASES = {
    "pascal5i": Case(
        builders.pascal,
        "foreground-segmentation",
        "VOC2012/JPEGImages/*.jpg",
        "VOC2012/SegmentationClassAug/*.png",
        ("--episodes", "20"),
    ),
    "msrc": Case(
        builders.msrc7, "co-segmentation", "image/*/*", "groundtruth/*/*", ("--restarts", "1")
    ),
    "imagenet-s": Case(
        builders.imagenet_s,
        "semantic-segmentation",
        "ImageNetS50/validation/*/*.JPEG",
        "ImageNetS50/validation-segmentation/*/*.png",
    ),
    "davis": Case(
        builders.davis,
        "temporal-correspondence",
        "JPEGImages/480p/two/00000.jpg",
        "Annotations/480p/two/00002.png",
    ),
    "bdd10k": Case(
        builders.bdd10k,
        "semantic-segmentation",
        "images/10k/val/day1.jpg",
        "labels/sem_seg/masks/val/day1.png",
    ),
    "refcoco": Case(
        builders.refcoco, "referring-expression", "images/mscoco/images/train2014/*.jpg"
    ),
    "spair71k": Case(builders.spair, "semantic-correspondence", "JPEGImages/aeroplane/a1.jpg"),
}


def turned(path: Path) -> None:
    """A photograph of the same pixels that asks to be shown upright, as its annotation is not."""
    with Image.open(path) as image:
        image.load()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(
        path, format="JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG", exif=exif
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in CASES
        for damage in ("turned", "cut")
        if damage == "turned" or CASES[name].mask
    ],
)
def test_it_is_left_out_and_named(
    shell: Shell, tiny_model: Path, tmp_path: Path, name: str, damage: str
) -> None:
    case, data, store = CASES[name], tmp_path / "data", tmp_path / "s.kv"
    case.build(data)
    pattern = case.photograph if damage == "turned" else case.mask
    path = sorted(data.glob(pattern))[0]
    (turned if damage == "turned" else breaking.truncated)(path)
    code, _, err = shell(
        "-q",
        "extract",
        store,
        "--model",
        tiny_model,
        "--dataset",
        f"{name}:{data}",
        "--kinds",
        "value",
        "--layers",
        0,
    )
    assert code in (0, 4), err
    outcome = shell("probe", store, case.task, *case.options, "--format", "json")
    assert outcome[0] in (0, 4), outcome[2]
    told(outcome, outcome[0], "it is turned" if damage == "turned" else str(path))
    result = json.loads(outcome[1])
    assert result["n"] > 0
    assert result["n_skipped"] > 0

"""Small real data sets in the official layouts, written by hand here and independent of the scenes
writer.
"""

from __future__ import annotations

from tests.support.datasets.files import (
    colour_bmp,
    golden,
    id_png,
    label_png,
    picture,
    write_json,
    write_text,
)
from tests.support.datasets.masks import bdd10k, davis, imagenet_s, msrc7, pascal
from tests.support.datasets.objects import captions, coco, refcoco
from tests.support.datasets.own_data import own
from tests.support.datasets.pairs import PAIRS, pair_record, spair
from tests.support.datasets.questions import (
    IMAGE_CELL,
    blink,
    blink_rows,
    cell,
    cvbench,
    mme,
    parquet,
    pope,
)

__all__ = [
    "IMAGE_CELL",
    "PAIRS",
    "bdd10k",
    "blink",
    "blink_rows",
    "captions",
    "cell",
    "coco",
    "colour_bmp",
    "cvbench",
    "davis",
    "golden",
    "id_png",
    "imagenet_s",
    "label_png",
    "mme",
    "msrc7",
    "own",
    "pair_record",
    "parquet",
    "pascal",
    "picture",
    "pope",
    "refcoco",
    "spair",
    "write_json",
    "write_text",
]

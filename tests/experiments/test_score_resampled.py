"""What the intervals of kvtool score resample: what sampling units share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import kvtool
from kvtool.result import Result, Row
from tests.support import datasets as builders
from tests.support.datasets import label_png, write_text


def first(result: Result) -> Row:
    return result.rows[0]


def lines(path: Path, *records: dict[str, Any]) -> Path:
    return write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def pair_record(index: int, is_right: bool, **names: Any) -> dict[str, Any]:
    """A pair of four keypoints that are all right or all wrong."""
    points = [[float(number), 0.0] for number in range(4)]
    predicted = points if is_right else [[90.0, 39.0]] * 4
    record = {"filename": str(index), "category": "cat", "trg_bndbox": [0, 0, 100, 40]}
    return record | {"trg_kps": points, "prd_kps": predicted} | names


def test_spair_pairs_of_one_image_are_no_independent_draws(tmp_path: Path) -> None:
    """Ten targets of ten pairs each: of a target all pairs are right, or none is."""
    records = [
        pair_record(10 * target + source, target < 5)
        | {"src_imname": f"s{target}-{source}.jpg", "trg_imname": f"t{target}.jpg"}
        for target in range(10)
        for source in range(10)
    ]
    image_result = kvtool.score("spair", answers=lines(tmp_path / "a.jsonl", *records))
    for record in records:
        del record["trg_imname"]
    pair_result = kvtool.score("spair", answers=lines(tmp_path / "b.jsonl", *records))
    widths = [
        first(result)["pck_image_high"] - first(result)["pck_image_low"]
        for result in (image_result, pair_result)
    ]
    assert widths[0] > 2 * widths[1]
    assert (image_result.config["resampled"], first(image_result)["n_resampled"]) == ("images", 110)
    assert (pair_result.config["resampled"], first(pair_result).get("n_resampled")) == (
        "pairs",
        None,
    )


def test_spair_a_pair_that_names_no_image_shares_none(tmp_path: Path) -> None:
    names = {"src_imname": "a.jpg", "trg_imname": "b.jpg"}
    records = [pair_record(0, True, **names), pair_record(1, False), pair_record(2, True)]
    row = first(kvtool.score("spair", answers=lines(tmp_path / "a.jsonl", *records)))
    assert (row["n"], row["n_resampled"]) == (3, 6)
    assert row["pck_image_low"] < row["pck_image"] < row["pck_image_high"]
    single = kvtool.score("spair", answers=lines(tmp_path / "b.jsonl", records[0]))
    assert {row["pck_image_low"] for row in single.rows} == {None}


def test_davis_resamples_sequences(tmp_path: Path) -> None:
    data = builders.davis(tmp_path / "DAVIS")
    for path in (data / "Annotations/480p").glob("*/*.png"):
        with Image.open(path) as image:
            labels = np.asarray(image)
        results = tmp_path / "results"
        label_png(results / path.parent.name / path.name, np.where(labels == 255, 0, labels))
    row = first(kvtool.score("davis", data=data, results=results))
    assert (row["n"], row["n_resampled"]) == (3, 2)
    # One sequence alone leaves nothing to resample, whatever the number of its objects.
    for number in (1, 2):
        (data / f"Annotations/480p/gone/0000{number}.png").unlink()
    row = first(kvtool.score("davis", data=data, results=results))
    assert (row["n"], row["n_resampled"], row["j_and_f_low"]) == (2, 1, None)

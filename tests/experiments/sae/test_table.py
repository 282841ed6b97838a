"""What `kvtool sae` shows on a terminal, and the lines below its table."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from kvtool.experiments.sae.remarks import is_prefix_equal, remarks
from kvtool.experiments.sae.table import tables
from kvtool.result import Result, Row
from tests.support.sae_results import directions_result, sae_result

NOTES: dict[str, Any] = {"notes": []}


def lines_of(result: Result) -> list[str]:
    """The lines of the tables on a terminal of 80 columns."""
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    for part in tables(replace(result, config=result.config | NOTES)):
        console.print(part)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def changed(result: Result, condition: str, **fields: Any) -> Result:
    """The result with other fields in the rows of a condition."""
    rows = [row | fields if row["condition"] == condition else row for row in result.rows]
    return replace(result, rows=rows)


def starred(result: Result) -> int:
    return sum("]*" in line for line in lines_of(result))


def at(low: float) -> Row:
    return {"transfer": low + 0.05, "transfer_low": low, "transfer_high": low + 0.1}


def test_a_star_is_an_interval_above_every_control_and_chance() -> None:
    """The highest control of every layer reaches 0.56, its interval 0.58."""
    result = changed(sae_result(), "random", **at(0.51))
    assert starred(changed(result, "image", **at(0.57))) == 8
    assert starred(changed(result, "image", **at(0.55))) == 0
    low = result
    for condition in ("other-image", "random", "random-norm", "untrained", "noise-residual"):
        low = changed(low, condition, **at(0.35))
    assert starred(changed(low, "image", **at(0.49))) == 0
    assert starred(changed(low, "image", **at(0.51))) == 8
    line = (
        "* the interval of the image's transfer lies above 0.5 and above every control's value in "
        "its layer"
    )
    assert line in remarks(result)


def test_without_controls_nothing_is_starred() -> None:
    result = sae_result(conditions=("text", "image"))
    assert starred(result) == 0
    assert not any("control" in line for line in remarks(result))


def test_few_images_are_read_against_the_highest_control() -> None:
    line = (
        "with 8 images a control may reach 0.55, as the highest did here: read transfer against "
        "the highest control, not against 0.5"
    )
    assert line in remarks(replace(sae_result(), n=8))
    assert line.replace("8 images", "29 images") in remarks(replace(sae_result(), n=29))
    assert not any("may reach" in text for text in remarks(replace(sae_result(), n=30)))


def test_a_prefix_that_changes_nothing_is_told() -> None:
    result = sae_result(layers=[0, 1])
    assert not is_prefix_equal(result)
    texts = [row for row in result.rows if row["condition"] == "text"]
    copies = [row | {"condition": "text-prefix", "fvu_ratio": 1.0} for row in texts]
    remaining = [row for row in result.rows if row["condition"] != "text-prefix"]
    equal = replace(result, rows=[*remaining, *copies])
    assert any("text-prefix equals text" in line for line in remarks(equal))
    almost = [*copies[:-1], copies[-1] | {"fvu": copies[-1]["fvu"] * (1 + 1e-15)}]
    assert not is_prefix_equal(replace(result, rows=[*remaining, *almost]))
    assert not is_prefix_equal(sae_result(conditions=("text", "image")))


def test_titles_stand_in_a_line() -> None:
    lines = lines_of(directions_result())
    assert "image tokens; norm is over the text's" in lines
    assert "layer 29, where directions are best" in lines
    assert "layer 7, where transfer is best" in lines_of(sae_result())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"transfer": 0.8}, "0.80 in the last layer, not above 0.9 of the best, 0.91"),
        ({"transfer_low": 0.55}, "its interval begins at 0.55 in the last layer, not above 0.6"),
        ({"transfer": None}, "not defined in every layer"),
    ],
)
def test_the_layer_of_alignment_is_a_line_that_says_why_there_is_none(
    fields: Row, reason: str
) -> None:
    result = sae_result(aligned=None)
    for row in result.rows:
        if row["condition"] == "image" and row["layer"] == 7:
            row.update(fields, fvu_ratio_high=18.04)
    (line,) = (line for line in remarks(result) if line.startswith("layer from which"))
    assert line == (
        "layer from which on image tokens read as text: none by fvu, none by transfer (fvu: up to "
        f"18 times the text's in the last layer, not below 1.25; transfer: {reason})"
    )


def test_a_layer_of_alignment_needs_no_reason() -> None:
    result = sae_result()
    entries = result.config["alignment_layer"][1:]
    only = replace(result, config=result.config | {"alignment_layer": entries})
    line = "layer from which on image tokens read as text: 3 [2, 4] by transfer"
    assert line in remarks(only)

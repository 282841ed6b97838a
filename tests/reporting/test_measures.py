"""Plain names of measures where the name of a column stands alone."""

from __future__ import annotations

from kvtool.reporting.measures import legend, short_measure


def test_a_legend_names_columns_that_do_not_say_it_themselves() -> None:
    assert legend(["j_mean", "pck_image"]) == (
        "j_mean: overlap of mask and object (J); pck_image: points found (PCK)"
    )
    assert legend(["score", "hereafter"]) == ""


def test_a_measure_without_a_short_name_has_its_plain_one() -> None:
    assert [short_measure(name) for name in ("miou", "score", "own_rule")] == [
        "IoU",
        "score",
        "own rule",
    ]

"""Answers as chat models write them: in bold, in full-width letters, in code, or not at all."""

from __future__ import annotations

import pytest

from kvtool.metrics.answers import parse_choice

CHOICES = ("cat", "snake_case", "2.5", "the * sign")


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("**B**", "(B)"),
        ("**(B)**", "(B)"),
        ("**B.** snake_case", "(B)"),
        ("__A__", "(A)"),
        ("`C`", "(C)"),
        ("The answer is **A**", "(A)"),
        ("**Answer:** B", "(B)"),
        ("\uff22", "(B)"),
        ("\uff08\uff22\uff09", "(B)"),
        ("\uff21\uff0e", "(A)"),
        ("*cat*", "(A)"),
        ("snake_case", "(B)"),
        ("**2.5**", "(C)"),
        ("", ""),
        ("** **", ""),
        ("**A** or **B**", ""),
    ],
)
def test_marks_and_widths_are_no_part_of_an_answer(answer: str, option: str) -> None:
    assert parse_choice(answer, CHOICES) == option

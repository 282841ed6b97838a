"""How multiple-choice answers are read, case by case and against the rules written out."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtool.metrics.answers import parse_choice

SIDES = ("left", "left of the box", "right")
COUNTS = ("3", "10", "0")
YES_NO = ("yes", "no")
DEPTHS = ("A is closer", "B is closer")


@pytest.mark.parametrize(
    ("answer", "choices", "choice"),
    [
        # 1. letters in brackets
        ("(B)", SIDES, "(B)"),
        ("The answer is (b), left.", SIDES, "(B)"),
        ("(A) or (C)", SIDES, ""),
        ("(C), so (C)", SIDES, "(C)"),
        ("(D)", SIDES, ""),
        ("(D) right", SIDES, "(C)"),
        ("(A)", (), ""),
        # 2. bare letters
        ("B", SIDES, "(B)"),
        (" b \n", SIDES, "(B)"),
        ("B. right", SIDES, "(B)"),
        ("B: right", SIDES, "(B)"),
        ("B) right", SIDES, "(B)"),
        ("B\nbecause it is right", SIDES, "(B)"),
        ("Answer: B", SIDES, "(B)"),
        ("The correct answer is C.", SIDES, "(C)"),
        ("option A", SIDES, "(A)"),
        ("D", SIDES, ""),
        ("Answer: D", SIDES, ""),
        ("A is closer", DEPTHS, "(A)"),
        ("A dog", SIDES, ""),
        ("the answer is a dog", SIDES, ""),
        ("a.m.", SIDES, ""),
        # 3. texts
        ("It is RIGHT there.", SIDES, "(C)"),
        ("left", SIDES, "(A)"),
        ("left  of the\nbox", SIDES, "(B)"),
        ("left, or rather right", SIDES, ""),
        ("bright", SIDES, ""),
        ("There are 10.", COUNTS, "(B)"),
        ("3", COUNTS, "(A)"),
        ("3.", COUNTS, "(A)"),
        ("3.5", COUNTS, ""),
        ("1,003", COUNTS, ""),
        ("Yes, it is.", YES_NO, "(A)"),
        ("No", YES_NO, "(B)"),
        ("nothing known", YES_NO, ""),
        ("yes and no", YES_NO, ""),
        ("Point B is closer", DEPTHS, "(B)"),
        ("same", ("same", "Same", "other"), ""),
        ("a+b (c", ("a+b (c", ""), "(A)"),
        ("\uff08\uff21\uff09", SIDES, "(A)"),  # full-width letters and brackets
        ("\uff22\uff0e", SIDES, "(B)"),
        ("\uff39\uff45\uff53", YES_NO, "(A)"),
        ("", SIDES, ""),
        ("", ("", "no"), ""),
    ],
)
def test_rules(answer: str, choices: tuple[str, ...], choice: str) -> None:
    assert parse_choice(answer, choices) == choice


@pytest.mark.slow
@given(st.text(max_size=60), st.lists(st.text(max_size=12), max_size=30))
def test_always_a_choice_or_nothing(answer: str, choices: list[str]) -> None:
    choice = parse_choice(answer, choices)
    assert choice in {"", *(f"({letter})" for letter in string.ascii_uppercase[: len(choices)])}


@pytest.mark.slow
@given(
    st.integers(0, 7),
    st.integers(1, 8),
    st.sampled_from(["({})", "{}", "{}.", "{}:", "Answer: {}", "I say ({})."]),
)
def test_a_letter_is_read_up_to_the_number_of_choices(index: int, count: int, form: str) -> None:
    letter = string.ascii_uppercase[index]
    choices = [f"<{number}>" for number in range(count)]
    assert parse_choice(form.format(letter), choices) == (f"({letter})" if index < count else "")


words = st.lists(
    st.sampled_from(["cat", "dog", "red dog", "big red dog", "owl", "and"]), min_size=1, max_size=4
)


@pytest.mark.slow
@given(words, st.permutations(["cat", "dog", "red dog", "owl"]))
def test_texts_are_the_definition(names: list[str], choices: list[str]) -> None:
    """Slow: word by word, a choice counts where no longer choice covers it."""
    answer = " ".join(names)
    tokens = answer.split()
    spans = {
        (start, start + len(choice.split())): choice
        for choice in choices
        for start in range(len(tokens))
        if tokens[start : start + len(choice.split())] == choice.split()
    }
    matches = {
        choice
        for (start, stop), choice in spans.items()
        if not any((a, b) != (start, stop) and a <= start and stop <= b for a, b in spans)
    }
    expected = (
        f"({string.ascii_uppercase[choices.index(matches.pop())]})" if len(matches) == 1 else ""
    )
    assert parse_choice(answer, choices) == expected

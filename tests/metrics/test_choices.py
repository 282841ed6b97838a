"""How multiple-choice answers are read, case by case and against the rules written out."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtool.metrics.answers import parse_choice

PLACES = ("left", "left of the box", "right")
COUNTS = ("3", "10", "0")
YES_NO = ("yes", "no")
DEPTHS = ("A is closer", "B is closer")


@pytest.mark.parametrize(
    ("answer", "choices", "said"),
    [
        # 1. letters in brackets
        ("(B)", PLACES, "(B)"),
        ("The answer is (b), left.", PLACES, "(B)"),
        ("(A) or (C)", PLACES, ""),
        ("(C), so (C)", PLACES, "(C)"),
        ("(D)", PLACES, ""),
        ("(D) right", PLACES, "(C)"),
        ("(A)", (), ""),
        # 2. bare letters
        ("B", PLACES, "(B)"),
        (" b \n", PLACES, "(B)"),
        ("B. right", PLACES, "(B)"),
        ("B: right", PLACES, "(B)"),
        ("B) right", PLACES, "(B)"),
        ("B\nbecause it is right", PLACES, "(B)"),
        ("Answer: B", PLACES, "(B)"),
        ("The correct answer is C.", PLACES, "(C)"),
        ("option A", PLACES, "(A)"),
        ("D", PLACES, ""),
        ("Answer: D", PLACES, ""),
        ("A is closer", DEPTHS, "(A)"),
        ("A dog", PLACES, ""),
        ("the answer is a dog", PLACES, ""),
        ("a.m.", PLACES, ""),
        # 3. texts
        ("It is RIGHT there.", PLACES, "(C)"),
        ("left", PLACES, "(A)"),
        ("left  of the\nbox", PLACES, "(B)"),
        ("left, or rather right", PLACES, ""),
        ("bright", PLACES, ""),
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
        ("\uff08\uff21\uff09", PLACES, "(A)"),  # full-width letters and brackets
        ("\uff22\uff0e", PLACES, "(B)"),
        ("\uff39\uff45\uff53", YES_NO, "(A)"),
        ("", PLACES, ""),
        ("", ("", "no"), ""),
    ],
)
def test_rules(answer: str, choices: tuple[str, ...], said: str) -> None:
    assert parse_choice(answer, choices) == said


@given(st.text(max_size=60), st.lists(st.text(max_size=12), max_size=30))
def test_always_a_choice_or_nothing(answer: str, choices: list[str]) -> None:
    said = parse_choice(answer, choices)
    assert said in {"", *(f"({letter})" for letter in string.ascii_uppercase[: len(choices)])}


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


@given(words, st.permutations(["cat", "dog", "red dog", "owl"]))
def test_texts_are_the_definition(said: list[str], choices: list[str]) -> None:
    """Slow: word by word, a choice counts where no longer choice covers it."""
    answer = " ".join(said)
    tokens = answer.split()
    spans = {
        (start, start + len(choice.split())): choice
        for choice in choices
        for start in range(len(tokens))
        if tokens[start : start + len(choice.split())] == choice.split()
    }
    named = {
        choice
        for (start, stop), choice in spans.items()
        if not any((a, b) != (start, stop) and a <= start and stop <= b for a, b in spans)
    }
    wanted = f"({string.ascii_uppercase[choices.index(named.pop())]})" if len(named) == 1 else ""
    assert parse_choice(answer, choices) == wanted

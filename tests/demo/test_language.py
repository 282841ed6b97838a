"""What is said of a scene is true of it, beyond doubt, and within the vocabulary."""

from __future__ import annotations

import re

import numpy as np
import pytest

from kvtool.demo.compare import corresponding_point, most_similar, same_style
from kvtool.demo.language import (
    CHOICES,
    NUMBERS,
    RANDOM_PREFIX,
    SceneExpression,
    caption,
    domain_sentence,
    expressions,
    plural,
    vocabulary,
    with_article,
    words,
)
from kvtool.demo.questions import KINDS, SceneQuestion, existence_question, questions
from kvtool.demo.world import COLORS, Scene, Thing, categories, sample_scene


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(11)
    return [sample_scene(rng) for _ in range(200)]


@pytest.fixture(scope="module")
def asked(scenes: list[Scene]) -> list[tuple[Scene, SceneQuestion]]:
    rng = np.random.default_rng(12)
    return [(scene, question) for scene in scenes for question in questions(scene, rng)]


def _named(scene: Scene, category: str) -> list[Thing]:
    return [thing for thing in scene.things if thing.category == category]


def _category(word: str) -> str:
    return next(name for name in categories() if word in (name, plural(name)))


def _truth(scene: Scene, question: SceneQuestion) -> str | None:
    """The answer found again from the words of the question; None for kinds with no closed
    answer.
    """
    text = question.text.split(" Select")[0].replace(" Please answer yes or no.", "")
    if match := re.fullmatch(r"Is there an? (\w+) in (?:the|this) image\?", text):
        return "yes" if _named(scene, match[1]) else "no"
    if match := re.fullmatch(r"Is there an? (\w+) (\w+) in the image\?", text):
        matches = [match[1] in (thing.color, thing.texture) for thing in _named(scene, match[2])]
        return "yes" if any(matches) else "no"
    if match := re.fullmatch(r"What (color|texture|size) is the (\w+)\?", text):
        (thing,) = _named(scene, match[2])
        return str(getattr(thing, {"color": "color"}.get(match[1], match[1])))
    if match := re.fullmatch(r"How many (\w+) are (?:there )?in the image\?", text):
        count = (
            len(scene.things) if match[1] == "things" else len(_named(scene, _category(match[1])))
        )
        return str(count) if "Select" in question.text else NUMBERS[count]
    if match := re.fullmatch(r"(?:Are there|Is there only) (\w+) (\w+) in this image\?", text):
        return "yes" if NUMBERS[len(_named(scene, _category(match[2])))] == match[1] else "no"
    if match := re.fullmatch(
        r"Is the (\w+) (?:on the )?(left|right|above|below)(?: side of)? the (\w+)\?", text
    ):
        return "yes" if _side(scene, match[1], match[3], match[2]) else "no"
    if match := re.fullmatch(
        r"Is the (\w+) (?:on the )?(left|above) or (?:on the )?(right|below)(?: of)? the (\w+)\?",
        text,
    ):
        return match[2] if _side(scene, match[1], match[4], match[2]) else match[3]
    if match := re.search(r"where is the (\w+) located with respect to the (\w+)\?", text):
        options = [
            word for word in ("left", "right", "above", "below") if f") {word}" in question.text
        ]
        (true,) = [option for option in options if _side(scene, match[1], match[2], option)]
        return true
    if match := re.fullmatch(r"Is the (\w+) (?:on|at) the (\w+) of the image\?", text):
        return "yes" if _half(scene, match[1], match[2]) else "no"
    if match := re.fullmatch(r"Is the (\w+) (?:on|at) the (\w+) or (?:on|at) the (\w+)\?", text):
        return match[2] if _half(scene, match[1], match[2]) else match[3]
    return None


def _side(scene: Scene, one: str, other: str, where: str) -> bool:
    (first,), (second,) = _named(scene, one), _named(scene, other)
    axis = 0 if where in ("left", "right") else 1
    before = first.center_xy_px[axis] < second.center_xy_px[axis]
    return before == (where in ("left", "above"))


def _half(scene: Scene, name: str, where: str) -> bool:
    (thing,) = _named(scene, name)
    axis = 0 if where in ("left", "right") else 1
    return (thing.center_xy_px[axis] < scene.size_wh[axis] / 2) == (where in ("left", "top"))


def test_answers_are_true(asked: list[tuple[Scene, SceneQuestion]]) -> None:
    checked = 0
    for scene, question in asked:
        truth = _truth(scene, question)
        if truth is None:
            continue
        checked += 1
        answer = question.answer
        if answer in CHOICES:
            answer = re.split(r"\([A-D]\) ", question.text)[1 + CHOICES.index(answer)].strip()
        assert answer == truth, question
    assert checked > 1500


def test_every_kind_is_asked_and_yes_is_as_frequent_as_no(
    asked: list[tuple[Scene, SceneQuestion]],
) -> None:
    kinds = {question.kind for _, question in asked}
    assert {
        "existence",
        "color",
        "count",
        "left_right_choice",
        "above_below_yes_no",
        "depth_choice",
    } <= kinds
    assert len(kinds) >= len(KINDS)
    for kind in ("existence", "color_yes_no", "count_yes_no", "left_right_yes_no", "side_yes_no"):
        answers = [question.answer for _, question in asked if question.kind == kind]
        assert 0.3 < answers.count("yes") / len(answers) < 0.7, kind


def test_questions_come_from_the_generator_alone(scenes: list[Scene]) -> None:
    for scene in scenes[:20]:
        first, second = (questions(scene, np.random.default_rng(3)) for _ in range(2))
        assert first == second


def test_popes_wording() -> None:
    assert existence_question("umbrella", True) == SceneQuestion(
        "Is there an umbrella in the image?", "yes", "existence"
    )
    assert (
        existence_question("fish", False, 1).text
        == "Is there a fish in this image? Please answer yes or no."
    )


def _fits(scene: Scene, thing: Thing, text: str) -> bool:
    """Whether a phrase fits a thing, by the plainest reading: every word, and sides by the halves
    of the picture.
    """
    x, y = (spot / side for spot, side in zip(thing.center_xy_px, scene.size_wh, strict=True))
    sides = {"left": x < 0.5, "right": x > 0.5, "top": y < 0.5, "bottom": y > 0.5}
    true_words = {
        thing.category,
        thing.color,
        thing.texture,
        thing.size,
        "the",
        "thing",
        "on",
        "at",
    }
    return all(sides.get(word, word in true_words) for word in text.split())


def test_expressions_fit_one_thing_only(scenes: list[Scene]) -> None:
    items: list[tuple[Scene, SceneExpression]] = [
        (scene, item) for scene in scenes for item in expressions(scene)
    ]
    assert len(items) > 1000
    for scene, item in items:
        assert [
            index for index, thing in enumerate(scene.things) if _fits(scene, thing, item.text)
        ] == [item.thing]


def test_captions_name_everything(scenes: list[Scene]) -> None:
    for scene in scenes[:50]:
        tokens = words(caption(scene, np.random.default_rng(0)))
        for thing in scene.things:
            assert tokens.count(thing.category) == sum(
                rival.category == thing.category for rival in scene.things
            )
            assert thing.color in tokens
        assert {scene.setting, scene.time} <= set(tokens)


def test_everything_said_is_in_the_vocabulary(asked: list[tuple[Scene, SceneQuestion]]) -> None:
    tokens = set(vocabulary())
    texts = [text for _, question in asked for text in (question.text, question.answer)]
    rng = np.random.default_rng(0)
    texts += [compare(rng).text for compare in (same_style, most_similar, corresponding_point)]
    texts += [
        RANDOM_PREFIX,
        domain_sentence("day", "city street"),
        domain_sentence("night", "highway"),
    ]
    texts += [f"Is there {with_article(name)} in the image?" for name in categories()]
    texts += [
        f"Is there a {color} thing in this image? Please answer yes or no." for color in COLORS
    ]
    for text in texts:
        assert set(words(text)) <= tokens, text
    assert len(vocabulary()) == len(tokens)


def test_words_keep_choices_and_marks() -> None:
    assert words("(A) A fish, 12") == ["(A)", "a", "fish", ",", "1", "2"]
    assert words("<|im_start|>user <image>") == ["<|im_start|>", "user", "<image>"]

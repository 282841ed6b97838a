"""Questions about the picture as a whole, and descriptions of it and of single things."""

from __future__ import annotations

import numpy as np

from kvtool.demo.language import caption, expressions, look, spot, with_article
from kvtool.demo.questions.wording import YES_NO, SceneQuestion, pick, yes
from kvtool.demo.world import SETTINGS, Scene


def place_of(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for the place, openly or for yes or no."""
    if rng.random() < 0.5:
        return SceneQuestion("What place is shown in the image?", scene.setting, "place")
    guess = scene.setting if rng.random() < 0.5 else pick(rng, SETTINGS)
    text = f"Is the place shown in the image a {guess}? {YES_NO}"
    return SceneQuestion(text, yes(guess == scene.setting), "place_yes_no")


def time_of(scene: Scene, _rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for the time."""
    return SceneQuestion("Is it day or night in the image?", scene.time, "time")


def style_of(scene: Scene, _rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for the style of the drawing."""
    return SceneQuestion("What style is the image drawn in?", scene.style, "style")


def refer_color(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask which thing it is: a phrase without the category is answered with the thing's look."""
    phrases = [phrase for phrase in expressions(scene) if " thing" in phrase.text]
    if not phrases:
        return None
    phrase = phrases[rng.integers(len(phrases))]
    answer = with_article(look(scene.things[phrase.thing]))
    return SceneQuestion(f"What is {phrase.text}?", answer, "refer")


def describe_thing(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for a description: a phrase with the category is answered with look and place."""
    phrases = [phrase for phrase in expressions(scene) if " thing" not in phrase.text]
    if not phrases:
        return None
    phrase = phrases[rng.integers(len(phrases))]
    thing = scene.things[phrase.thing]
    answer = f"{with_article(look(thing))} {spot(scene, thing)}"
    return SceneQuestion(f"Describe {phrase.text}.", answer, "describe")


def list_color(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for all things of a color, from left to right."""
    color = pick(rng, sorted({thing.color for thing in scene.things}))
    things = [thing for thing in scene.things if thing.color == color]
    things.sort(key=lambda thing: (thing.center_xy_px[0], thing.category))
    names = ", ".join(thing.category for thing in things)
    return SceneQuestion(f"List the {color} things.", names, "list_color")


def list_things(scene: Scene, _rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for all things, from left to right."""
    things = sorted(scene.things, key=lambda thing: thing.center_xy_px[0])
    answer = ", ".join(look(thing, size=False, texture=False) for thing in things)
    return SceneQuestion("List the things from left to right.", answer, "list")


def describe_scene(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for a caption."""
    return SceneQuestion("Describe the image.", caption(scene, rng), "caption")

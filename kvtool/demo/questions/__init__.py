"""Questions about one scene, with their answers, in the manner of POPE, MME, CV-Bench and our own.

`KINDS` lists the kinds of questions. Answers follow from the scene's data. A question is only asked
where its answer is beyond doubt: positions need a margin, and colors and relations need a thing
that its category names alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kvtool.demo.questions import positions, scenes, things
from kvtool.demo.questions.wording import (
    SELECT,
    YES_NO,
    SceneQuestion,
    as_choice,
    choice_text,
    existence_question,
)
from kvtool.demo.world import Scene

KINDS: dict[str, Callable[[Scene, np.random.Generator], SceneQuestion | None]] = {
    "existence": things.existence,
    "color": things.color_of,
    "color_yes_no": things.color_yes_no,
    "texture": things.texture_of,
    "texture_yes_no": things.texture_yes_no,
    "size": things.size_of,
    "count": things.count,
    "count_things": things.count_things,
    "count_yes_no": things.count_yes_no,
    "count_choice": things.count_choice,
    "relation": positions.relation,
    "relation_yes_no": positions.relation_yes_no,
    "relation_choice": positions.relation_choice,
    "side": positions.side,
    "depth_choice": positions.depth_choice,
    "place": scenes.place_of,
    "time": scenes.time_of,
    "style": scenes.style_of,
    "refer": scenes.refer_color,
    "describe": scenes.describe_thing,
    "list_color": scenes.list_color,
    "list": scenes.list_things,
    "caption": scenes.describe_scene,
}
"""Kind -> the function that asks it, or returns None where the scene does not allow it."""


def questions(
    scene: Scene, rng: np.random.Generator, kinds: Sequence[str] | None = None
) -> list[SceneQuestion]:
    """Ask one question of each kind (by default of all), in that order, where the scene allows."""
    drafts = [KINDS[kind](scene, rng) for kind in (kinds or KINDS)]
    return [question for question in drafts if question is not None]


__all__ = [
    "KINDS",
    "SELECT",
    "YES_NO",
    "SceneQuestion",
    "as_choice",
    "choice_text",
    "existence_question",
    "questions",
]

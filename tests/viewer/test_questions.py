"""Questions from the stored cache: the answer, where it looks, and with heads blocked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.knockout import knocked_out
from kvtool.store import Run
from kvtool.viewer.questions import Questions, parse_blocked
from kvtool.viewer.viewer import Viewer, runs_by_name
from tests.support.attention import FINDER, QUESTION, looking_run, shows_cat
from tests.support.concepts import cats_and_dogs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    folder = tmp_path_factory.mktemp("questions")
    return looking_run(folder / "looking.kv", tiny_model, cats_and_dogs(folder / "data", 4))


@pytest.fixture(scope="module")
def questioner(looking: Run, tiny_model: Path) -> Any:
    viewer = Viewer(
        runs_by_name([(Path(looking.store), looking)]), {}, Questions(str(tiny_model), "cpu")
    )
    image = next(image for image in looking.ids if shows_cat(image))
    scope = {"store": "looking.kv", "run": looking.name, "image": image, "question": QUESTION}

    def ask(resource: str, **texts: str) -> Any:
        return viewer.answer(resource, {**scope, **texts})

    return ask, image


def test_the_finder_looks_at_the_left_half(questioner: Any, looking: Run) -> None:
    ask, image = questioner
    reply = ask("attention")
    shape = tuple(map(int, reply.labels["shape"].split(",")))
    geometry = looking.config.model.geometry
    sample = looking.image(image).sample
    assert shape == (geometry.layers, geometry.q_heads, sample.n_tokens)
    maps = np.frombuffer(reply.body, "<f4").reshape(shape)
    span = sample.base()
    grid = maps[FINDER][span.token_indices()].reshape(span.grid)
    half = span.grid[1] // 2
    assert grid[:, :half].sum() > 100 * grid[:, half:].sum()


@pytest.mark.parametrize("blocked", ["", "1:0,0:1"])
def test_the_answer_is_that_of_the_model(
    questioner: Any, looking: Run, tiny_model: Path, blocked: str
) -> None:
    ask, image = questioner
    answer = json.loads(ask("question", blocked=blocked).body)
    model: Any = load_model(str(tiny_model), device="cpu", dtype="float32")
    sample = looking.image(image).sample
    cache = model.restore([sample], [looking.read_image(image, raw=True)])
    with knocked_out(model, [sample], parse_blocked(blocked)):
        (expected,) = model.ask(cache, sample, [model.question(QUESTION)], 32)
    assert answer == {"answer": expected, "blocked": [list(h) for h in parse_blocked(blocked)]}


@pytest.mark.parametrize("text", ["1", "1:", ":1", "a:b", "1:2:3", "-1:0", "9999999:99999999"])
def test_heads_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="LAYER:KV_HEAD"):
        parse_blocked(text)

"""Questions over several pictures that are not square, by a model whose processor pads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import kvtool
from kvtool.asking.answering import Answerer
from kvtool.asking.paired.answers import PADDED, pads_pictures, stored_prompt
from kvtool.datasets.base import ImageRef, Question
from kvtool.datasets.images import load_image
from kvtool.models import load_model
from kvtool.models.base import LanguageModel
from kvtool.store import Run
from tests.support import tiny

SIZES = {"wide.png": (70, 45), "square.png": (40, 40), "tall.png": (30, 60), "small.png": (34, 34)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("padded")
    (folder / "pictures").mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        tiny.noise(*size, seed=seed).save(folder / "pictures" / name)
    names = {
        build: kvtool.extract(
            folder / "s.kv",
            model=str(getattr(tiny, build)(folder / build)),
            dataset=f"folder:{folder / 'pictures'}",
            dtype="float32",
        ).run
        for build in ("llava_onevision", "qwen2_vl")
    }
    return {build: kvtool.open(folder / "s.kv").run(name) for build, name in names.items()}


def question(*images: str) -> Question:
    return Question("q", images, "Which?", "Which is red?", "(A)", "Art_Style")


def prompt_tensors(run: Run, *images: str) -> list[set[str]]:
    """Names of the tensors of each picture, and the key beside them."""
    answerer = Answerer(kvtool.open(run.store), run, None, "cpu", 4, False)
    refs = {image: ImageRef(image, Path(str(run.place)) / image) for image in run.ids}
    prepared = stored_prompt(answerer, question(*images), refs).prepare()
    assert prepared is not None
    return [set(item.tensors) for item in prepared]


@pytest.mark.slow
def test_which_questions_are_padded(runs: dict[str, Run]) -> None:
    run = runs["llava_onevision"]
    assert pads_pictures(run, question("wide.png", "square.png"))
    assert not pads_pictures(run, question("small.png", "square.png"))
    assert not pads_pictures(run, question("wide.png"))
    assert not pads_pictures(runs["qwen2_vl"], question("wide.png", "tall.png"))


@pytest.mark.slow
def test_only_pictures_that_are_not_square_are_read_again(runs: dict[str, Run]) -> None:
    run = runs["llava_onevision"]
    assert prompt_tensors(run, "wide.png", "square.png") == [{"pixels"}, {"projected"}]
    assert prompt_tensors(run, "small.png", "square.png") == [{"projected"}] * 2
    assert prompt_tensors(runs["qwen2_vl"], "wide.png", "tall.png") == [{"projected"}] * 2


@pytest.mark.slow
def test_answers_are_those_over_padded_pixels_and_kept_apart(runs: dict[str, Run]) -> None:
    run = runs["llava_onevision"]
    answerer = Answerer(kvtool.open(run.store), run, None, "cpu", 4, False)
    refs = {image: ImageRef(image, Path(str(run.place)) / image) for image in run.ids}
    prompt = stored_prompt(answerer, question("wide.png", "tall.png"), refs)
    assert prompt.key[0] == PADDED
    prepared = prompt.prepare()
    model = load_model(run.config.model.name, dtype="float32")
    assert isinstance(model, LanguageModel)
    assert prepared is not None
    for name, item in zip(("wide.png", "tall.png"), prepared, strict=True):
        expected = model.prepare_several(load_image(refs[name]), id=name, index=0)
        np.testing.assert_array_equal(item.tensors["pixels"], expected.tensors["pixels"])
    squares = stored_prompt(answerer, question("small.png", "square.png"), refs)
    assert squares.key[0][0] == "small.png"

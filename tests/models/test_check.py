"""Checks of a model: they hold for every family, and each fails where what it checks is not so."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kvtool
from kvtool.engine.checking import colors
from kvtool.errors import ModelError
from kvtool.models import check, load_model
from kvtool.models.families import TAKES_VIDEOS
from kvtool.types import Sample
from tests.support import tiny, tiny_encoders

FAMILIES = ("llava_onevision", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "gemma3", "gemma4", "mistral3")


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES)
def test_all_checks_hold(tmp_path: Path, family: str, dtype: Any) -> None:
    folder = getattr(tiny, family)(tmp_path)
    outcomes = kvtool.check_model(str(folder), device="cpu", dtype=dtype)
    assert [outcome.row() for outcome in outcomes if not outcome.passed] == []
    views = {"llava_onevision": ["base", "full"]}.get(family, ["base"])
    views += ["video"] * (family in TAKES_VIDEOS)
    names = ["pixel map", "whole prompt", "question", "batch", "continuation", "knockout"]
    assert [(o.view, o.check) for o in outcomes] == [(v, n) for v in views for n in names]


ENCODERS = (
    "dinov2",
    "dinov3_vit",
    "radio",
    "aimv2_native",
    "aimv2_of_two",
    "siglip2_of_two",
    "metaclip_2_of_two",
    "tipsv2_of_two",
)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("build", ENCODERS)
@pytest.mark.sampled
def test_an_encoder(tmp_path: Path, build: str, dtype: Any) -> None:
    folder = tiny_encoders.built(build, tmp_path)
    outcomes = kvtool.check_model(str(folder), device="cpu", dtype=dtype)
    expected = [("pixel map", True), ("batch", True), ("class output", True)]
    assert [(o.check, o.passed) for o in outcomes] == expected


def test_a_last_layer_without_its_norm_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(tiny_encoders.dinov3_vit(tmp_path)), dtype="float32")
    monkeypatch.setattr("kvtool.models.encoder.NORMS", {})
    outcome = check.class_output(model, colors(), "base")
    assert not outcome.passed
    assert outcome.value > outcome.limit


SMALL = colors((320, 160))
"""A picture of few tokens."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(str(tiny.mistral3(tmp_path_factory.mktemp("model"))), dtype="float32")


def moved(sample: Sample, **changes: Any) -> Sample:
    """A sample whose grid is not where its tokens are."""
    (span,) = sample.spans
    return replace(sample, spans=(replace(span, **changes),))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"start": 1}, {"row_stride": 1}, {"cover_xyxy_px": (0.0, 0.0, 300.0, 160.0)}]
)
def test_a_map_that_is_not_true_is_refused(
    model: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Off by one, without the marks between rows, over other pixels."""
    prepare = type(model).prepare

    def wrong(self: Any, *arguments: Any, **options: Any) -> Any:
        item = prepare(self, *arguments, **options)
        return replace(item, sample=moved(item.sample, **changes))

    monkeypatch.setattr(type(model), "prepare", wrong)
    with pytest.raises(ModelError, match="expected the check of its pixel map to hold, found"):
        check.prove(model, SMALL, "base")


@pytest.mark.slow
def test_an_image_that_depends_on_the_question_fails(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a decoder whose prompt attends both ways: here the question moves the image."""
    run_prompts = type(model).run_prompts

    def moving(self: Any, samples: Any, before: Any, cache: Any, following: Any = ()) -> Any:
        tokens = before.tokens + 0.01 * sum(following)
        return run_prompts(self, samples, before._replace(tokens=tokens), cache, following)

    monkeypatch.setattr(type(model), "run_prompts", moving)
    for name in ("whole_prompt", "question", "continuation"):
        outcome = getattr(check, name)(model, SMALL, "base")
        assert not outcome.passed
        assert outcome.value > outcome.limit
    with pytest.raises(ModelError, match="expected the check of its whole prompt to hold"):
        check.prove(model, SMALL, "base")


@pytest.mark.slow
def test_a_knockout_that_hides_nothing_fails(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_blocked: Any, call: Any) -> Any:
        return call.visible()

    monkeypatch.setattr("kvtool.models.knockout.Blocked.__call__", nothing)
    assert not check.knockout(model, SMALL, "base").passed


@pytest.mark.slow
def test_what_is_not_finite_in_one_layer_passes_no_check(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the layers before and after it differ by."""
    whole_pass, capture = check._whole_pass, type(model).capture

    def spoiled_pass(*arguments: Any) -> Any:
        layers, logits = whole_pass(*arguments)
        layers[2] = torch.full_like(layers[2], torch.nan)
        return layers, logits

    def spoiled_capture(self: Any, items: Any, request: Any) -> Any:
        captured = capture(self, items, request)
        if len(items) == 1:
            captured.arrays["value"][0][1] = np.nan
        return captured

    monkeypatch.setattr(check, "_whole_pass", spoiled_pass)
    outcomes = [check.question(model, SMALL, "base")]
    monkeypatch.setattr(check, "_whole_pass", whole_pass)
    monkeypatch.setattr(type(model), "capture", spoiled_capture)
    outcomes += [measure(model, SMALL, "base") for measure in (check.whole_prompt, check.batch)]
    for outcome in outcomes:
        assert not outcome.passed
        assert isnan(outcome.value)

"""What the report's sentences say of scores, intervals, baselines and tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvtool.experiments.knockout import article as knockout_article
from kvtool.experiments.paired import article as paired_article
from kvtool.experiments.prefix import article as prefix_article
from kvtool.experiments.probe import article as probe_article
from kvtool.experiments.variance import article as variance_article
from kvtool.reporting import sentences
from kvtool.reporting.numbers import interval, ranges, relation
from kvtool.result import Result
from tests.support import studies
from tests.support.studies import scored

A, B, C = (scored("m", value) for value in (0.5, 0.52, 0.6))


def test_relation_of_intervals() -> None:
    assert relation(A, B, "m") == "not distinguishable"
    assert relation(C, A, "m") == "above"
    assert relation(A, C, "m") == "below"
    assert relation(A, {"m": 0.5, "m_low": None, "m_high": None}, "m") == "without an interval"


def best_of(result: Result, value: float) -> Result:
    best = {**(result.best or {}), **scored(result.metric, value)}
    return replace(result, best=best)


def test_best_block_and_its_choice() -> None:
    sentence = sentences.best_block(best_of(studies.probe_result(), 0.461))
    assert (
        "46.1 [44.1, 48.1] % (PCK, n = 60). Optimistic: chosen as the best of 8 on the same data"
        in sentence
    )
    split = sentences.best_block(studies.probe_result(select="split"))
    assert split.endswith("chosen on one half of the data and scored on the other.")
    assert "Optimistic" not in split
    assert (
        sentences.best_block(replace(studies.probe_result(), best=None))
        == "Points found (PCK) is defined for no block."
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (0.5, "It is above the projected features, 30.0 [28.0, 32.0] %."),
        (
            0.33,
            "It is not distinguishable from the projected features, 30.0 [28.0, 32.0] %: the "
            "intervals overlap.",
        ),
        (0.1, "It is below the projected features, 30.0 [28.0, 32.0] %."),
    ],
)
def test_against_a_baseline(value: float, sentence: str) -> None:
    result = best_of(studies.probe_result(), value)
    assert sentences.against_baseline(result, result.best or {}, result.baselines[0]) == sentence


def test_against_a_baseline_of_another_model_and_without_interval() -> None:
    result = studies.probe_result()
    assert "the vision tower's output (layer 3) of tower, 10.0" in sentences.against_baseline(
        result, result.best or {}, result.baselines[1]
    )
    baseline = {**result.baselines[0], "pck_image_low": None}
    assert "nothing is said of a difference" in sentences.against_baseline(
        result, result.best or {}, baseline
    )


def test_the_last_layer() -> None:
    result = studies.probe_result()
    last = {**result.per_layer[-1], **scored("pck_image", 0.3)}
    best = {**(result.best or {}), "layer": 0, **scored("pck_image", 0.5)}
    variant = replace(result, best=best, per_layer=[*result.per_layer[:-1], last])
    assert "The best is above the last layer's best" in str(probe_article.last_layer(variant))
    close = replace(variant, best={**best, **scored("pck_image", 0.33)})
    assert "not distinguishable from the last layer's best" in str(probe_article.last_layer(close))
    assert probe_article.last_layer(replace(variant, best={**best, "layer": last["layer"]})) is None


def test_between_models() -> None:
    first, second = (
        best_of(studies.probe_result(model=name), value) for name, value in (("a", 0.6), ("b", 0.5))
    )
    assert sentences.between_models([second, first]) == (
        "Of 2 models the best block of a (60.0 [58.0, 62.0] %) is above that of the next, b "
        "(50.0 [48.0, 52.0] %)."
    )
    assert "are not distinguishable" in str(
        sentences.between_models([first, best_of(second, 0.59)])
    )
    assert sentences.between_models([first]) is None
    assert sentences.between_models([first, replace(second, n=61)]) is None
    assert (
        sentences.between_models([first, replace(second, config=second.config | {"model": "a"})])
        is None
    )
    assert (
        sentences.between_models(
            [first, replace(second, config=second.config | {"prefix": "random"})]
        )
        is None
    )
    assert (
        sentences.between_models([first, replace(second, config=second.config | {"split": "val"})])
        is None
    )


def test_input_agnostic_keys() -> None:
    assert variance_article.agnostic_keys(studies.variance_result()) == (
        "3 of 8 key blocks are input-agnostic (3 of 4 early): variance below 1, the valley between "
        "the two modes."
    )
    assert (
        "No key is called input-agnostic: the variances are not bimodal (one mode)"
        in variance_article.agnostic_keys(studies.variance_result(bimodal=False))
    )


def test_knockouts() -> None:
    result = studies.knockout_result()
    none, _, target, dependent = result.rows
    assert "made no difference that could be told: 79.0" in knockout_article.knockout_effect(
        result, none, target
    )
    lowered = knockout_article.knockout_effect(result, none, dependent)
    assert "lowered the score: 60.0 [58.0, 62.0] against 80.0" in lowered
    assert "20 answers lost, 1 gained, p < 0.0001" in lowered
    close = {**target, "n_lost": 12, "n_gained": 1, "mcnemar_p": 0.003}
    assert (
        "left fewer answers right (12 answers lost, 1 gained, p = 0.003), though"
        in knockout_article.knockout_effect(result, none, close)
    )
    raised = {**dependent, **scored("f1", 0.9)}
    assert "raised the score" in knockout_article.knockout_effect(result, none, raised)
    # Of few pictures no test is sure, however far the intervals are apart.
    unsure = {**dependent, "picture_p": 0.12, "picture_holm_p": 0.24}
    assert "made no difference that could be told: 60.0" in knockout_article.knockout_effect(
        result, none, unsure
    )
    assert len(sentences.sentences_of(result)) == 2


def test_prefixes() -> None:
    result = studies.prefix_result()
    correct, random = result.rows[1:]
    assert (
        "raised the score: difference 10.0 [8.0, 12.0] percentage points"
        in prefix_article.prefix_effect(result, correct)
    )
    assert "made no difference that could be told: 1.0 [-1.0, 3.0]" in prefix_article.prefix_effect(
        result, random
    )
    worse = {**correct, **scored("difference", -0.1)}
    assert "lowered the score: difference -10.0" in prefix_article.prefix_effect(result, worse)
    bare = {**correct, "difference_low": None}
    assert "nothing more is said" in prefix_article.prefix_effect(result, bare)
    assert len(sentences.sentences_of(result)) == 2


def test_values_and_the_model() -> None:
    result = studies.paired_result()
    cells, test, choice = sentences.sentences_of(result)
    assert cells.startswith(
        "Value, layer 3, head 1, percent of 60 questions: both right 40.0 [38.0, 42.0], values "
        "alone"
    )
    assert test.startswith("The values answer more questions right than the model: values 70.0")
    assert choice.startswith("Optimistic")
    row = result.rows[0]
    assert "not distinguishable" in paired_article.paired_test(result, {**row, "mcnemar_p": 0.2})
    assert paired_article.paired_test(result, {**row, **scored("value", 0.2)}).startswith(
        "The model answers more"
    )
    assert "not tested" in paired_article.paired_test(result, {**row, "mcnemar_p": None})


def test_correlations() -> None:
    assert sentences.sentences_of(studies.correlate_result()) == [
        "Pearson over 3 models is positive: 0.90 [0.20, 0.99], p = 0.040."
    ]
    assert (
        "cannot be told from none" in sentences.sentences_of(studies.correlate_result(low=-0.4))[0]
    )


def test_numbers_as_written() -> None:
    assert interval(studies.probe_result(), scored("pck_image", 0.4567)) == "45.7 [43.7, 47.7]"
    assert interval(studies.variance_result(), {"variance": 0.123456}) == "0.1235"
    assert ranges([3, 0, 1, 2, 7]) == "0-3,7"

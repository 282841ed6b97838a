"""The report page without a browser: what is chosen and said, and that nothing of a result gets out
of its text.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from kvtool.cli.app import app
from kvtool.experiments.knockout import article as knockout_article
from kvtool.experiments.paired import article as paired_article
from kvtool.experiments.prefix import article as prefix_article
from kvtool.experiments.probe import article as probe_article
from kvtool.experiments.variance import article as variance_article
from kvtool.reporting import KeptResult, Study, choose, render, sentences, trimming
from kvtool.reporting.axes import Axis, nice_steps
from kvtool.reporting.commands import extract_command, result_command
from kvtool.reporting.heatmap import heatmap, viridis
from kvtool.reporting.numbers import interval, ranges, relation
from kvtool.reporting.trimming import trim
from kvtool.result import Result, Row
from tests.support import studies
from tests.support.page import Reader
from tests.support.studies import scored


def read(*results: Result, **options: Any) -> Reader:
    return Reader(render(studies.study(*results, **options)))


def embedded_rows(data: Any, name: str) -> list[Row]:
    table = data["tables"][name]
    return [
        table["same"] | dict(zip(table["own"], values, strict=True)) for values in table["rows"]
    ]


def without_none(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}


@pytest.mark.parametrize("position", range(len(studies.every_result())))
def test_all_rows_are_in_the_page_with_every_digit(position: int) -> None:
    result = studies.every_result()[position]
    data = read(result).data
    name = next(iter(data["tables"]))
    assert [without_none(row) for row in embedded_rows(data, name)] == [
        without_none(r) for r in result.flat_rows()
    ]


def test_nothing_of_a_result_gets_out_of_its_text() -> None:
    reader = read(*studies.every_result())
    assert reader.text.count(studies.NASTY) >= 4
    assert [tag for tag, _ in reader.elements].count("script") == 2
    page = render(studies.study(*studies.every_result()))
    assert studies.NASTY not in page
    assert "alert(1)" in page


def test_the_page_asks_nothing_of_anyone() -> None:
    reader = read(*studies.every_result())
    for tag, attributes in reader.elements:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    policy = next(a["content"] for tag, a in reader.elements if tag == "meta" and "http-equiv" in a)
    assert (policy or "").startswith("default-src 'none'; img-src data:")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", render(studies.study()))


def test_of_several_results_the_fullest_then_the_newest() -> None:
    small, full = studies.probe_result(layers=2), studies.probe_result()
    older, fewer = replace(full, best=None), replace(full, n=5)
    records = [("a.kv", result.to_json()) for result in (small, fewer, full, older)]
    records += [
        ("b.kv", small.to_json()),
        ("a.kv", {"kind": "answers"}),
        ("a.kv", {"schema": "later/2"}),
    ]
    choices = choose(iter(records))
    assert [(entry.store, entry.n_duplicates) for entry in choices] == [("a.kv", 3), ("b.kv", 0)]
    assert choices[0].result == full


def test_results_in_a_readers_order() -> None:
    results = choose(("s.kv", result.to_json()) for result in reversed(studies.every_result()))
    commands = [entry.result.command for entry in results]
    assert commands == [
        "probe",
        "probe",
        "variance",
        "knockout",
        "prefix",
        "paired",
        "correlate",
        "hereafter",
    ]
    assert [entry.run for entry in results[:2]] == [
        "model-semantic-correspondence",
        "second-semantic-correspondence",
    ]


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
        "46.1 [44.1, 48.1] pck_image (n = 60). Optimistic: chosen as the best of 8 on the same data"
        in sentence
    )
    split = sentences.best_block(studies.probe_result(select="split"))
    assert split.endswith("chosen on one half of the data and scored on the other.")
    assert "Optimistic" not in split
    assert (
        sentences.best_block(replace(studies.probe_result(), best=None))
        == "pck_image is defined for no block."
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (0.5, "It is above the projected features, 30.0 [28.0, 32.0]."),
        (
            0.33,
            "It is not distinguishable from the projected features, 30.0 [28.0, 32.0]: the "
            "intervals overlap.",
        ),
        (0.1, "It is below the projected features, 30.0 [28.0, 32.0]."),
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
        "Of 2 models the best block of a (60.0 [58.0, 62.0]) is above that of the next, b (50.0 "
        "[48.0, 52.0])."
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
    assert "lowered the score: 60.0 [58.0, 62.0] f1 against 80.0" in lowered
    assert "20 answers lost, 1 gained, p = 2e-05" in lowered
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
        "raised the score by 10.0 pck_image; difference 10.0 [8.0, 12.0]"
        in prefix_article.prefix_effect(result, correct)
    )
    assert "made no difference that could be told: 1.0 [-1.0, 3.0]" in prefix_article.prefix_effect(
        result, random
    )
    worse = {**correct, **scored("difference", -0.1)}
    assert "lowered the score by 10.0" in prefix_article.prefix_effect(result, worse)
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


def test_a_heatmap_says_what_the_rows_say() -> None:
    result = studies.probe_result()
    rows = [row for row in result.rows if row["kind"] == "value" and "category" not in row]
    chart = heatmap(result, "value", rows)
    assert (chart.layers, chart.heads) == ([0, 1, 2, 3], [0, 1])
    for row in rows:
        cell = chart.cells[row["kv_head"]][row["layer"]]
        assert cell is not None
        block = f"value, layer {row['layer']}, head {row['kv_head']}"
        assert cell.label == f"{block}: {interval(result, row)}, n = 60"
        assert cell.best == (row["pck_image"] == (result.best or {})["pck_image"])
    holes = heatmap(result, "value", rows[:3])
    assert holes.cells[1][1] is None
    framed = heatmap(studies.variance_result(), "key", studies.variance_result().rows)
    assert sum(cell.framed for line in framed.cells for cell in line if cell) == 3


def test_colours_go_one_way() -> None:
    levels = [
        sum(int(viridis(share)[i : i + 2], 16) for i in (0, 2, 4))
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert levels == sorted(levels)


def test_scales() -> None:
    assert nice_steps(0.0, 1.0, 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert [tick.text for tick in Axis(0.1, 1000, 0, 100, logarithmic=True).ticks()] == [
        "0.1",
        "1",
        "10",
        "100",
        "1000",
    ]
    assert Axis(0, 10, 100, 0)(2.5) == 75


INFO = {
    "store": "s.kv", "run": "model-semantic-correspondence", "model": "m", "dataset": "spair71k",
    "dataset_path": "/d a", "split": "test", "prefix": "none", "view": "base", "keys": "post-rope",
    "kinds": ["key", "value"], "dtype": "bfloat16", "layers": [0, 1, 2, 3],
    "vision_layers": [], "kv_heads": 2, "images": 3, "revision": "0",
}  # fmt: skip


def test_commands_are_taken_by_the_command_line() -> None:
    """Each ends where the store is looked for, not in its options."""
    results = [*studies.every_result()[:6], studies.probe_result(layers=2, select="split")]
    commands = [
        extract_command(INFO),
        *(result_command(KeptResult("/none/s.kv", result), INFO) for result in results),
    ]
    assert commands[0].startswith("kvtool extract s.kv --model m --dataset 'spair71k:/d a@test'")
    assert "--layers" not in commands[1]
    assert "--layers 0-1" in commands[-1]
    assert "--select split" in commands[-1]
    for command in commands[1:]:
        outcome = CliRunner().invoke(app, shlex.split(command)[1:])
        assert "No such option" not in outcome.output
        assert "/none/s.kv" in str(outcome.exception), (command, outcome.output)


def test_heads_from_standard_input_are_piped_again() -> None:
    result = studies.knockout_result()
    selection = {
        "conditions": [{"condition": "chosen", "heads": [[0, 1], [2, 0]]}],
        "heads": "standard input",
    }
    command = result_command(
        KeptResult("s.kv", replace(result, config=result.config | selection)), None
    )
    lines, _, second_command = command.partition(" | ")
    printed = subprocess.run(
        ["bash", "-c", lines], capture_output=True, text=True, check=True
    ).stdout
    heads = [{"layer": 0, "kv_head": 1}, {"layer": 2, "kv_head": 0}]
    assert [json.loads(line) for line in printed.splitlines()] == heads
    assert second_command.startswith("kvtool knockout s.kv --benchmark pope:/data/pope --heads - ")


def test_sections_without_pictures_say_nothing_false() -> None:
    reader = read(
        studies.variance_result(bimodal=False), notes=("No pictures for variance: <gone>",)
    )
    assert "No pictures for variance: <gone>" in reader.text
    assert "Principal components" not in reader.text
    assert "not bimodal" in reader.text


def test_a_result_without_any_block_or_score() -> None:
    empty = Result("probe", "co-segmentation", "j_mean", 0, [])
    undefined = replace(studies.probe_result(layers=1, heads=1), best=None, per_layer=[])
    for row in undefined.rows:
        row |= {"pck_image": None, "pck_image_low": None, "pck_image_high": None}
    for result in (empty, undefined, replace(studies.variance_result(), rows=[], config={})):
        assert "is defined for no block" in read(result).text or result.command == "variance"


def test_a_page_of_nothing_but_a_title() -> None:
    assert "A study" in Reader(render(Study("A study", "", ()))).text


def test_rows_beyond_a_pages_room(monkeypatch: pytest.MonkeyPatch) -> None:
    result = studies.probe_result()
    assert trim(result, [result]) == (result.rows, 0)
    cells = [len(row) for row in result.rows]
    summary = [row for row in result.rows if "category" not in row]
    monkeypatch.setattr(trimming, "MOST_CELLS", sum(cells) - 1)
    rows, left_out = trim(result, [result])
    worst = min(
        (row for row in summary if row["kind"] == "value"), key=lambda row: float(row["pck_image"])
    )
    block = ["kind", "layer", "kv_head"]
    assert left_out == 1
    assert rows == [
        row
        for row in result.rows
        if row in summary or any(row[name] != worst[name] for name in block)
    ]
    assert (
        "rows by category of 1 block of lower score; --format csv prints all" in read(result).text
    )
    monkeypatch.setattr(trimming, "MOST_CELLS", 1)
    assert trim(result, [result]) == (summary, 8)


def test_of_equal_results_the_more_thorough_is_shown() -> None:
    quick, thorough = (
        Result(
            "probe", "co-segmentation", "j_mean", 70, [], config={"run": "r", "restarts": restarts}
        )
        for restarts in (1, 10)
    )
    (entry,) = choose([("s", quick.to_json()), ("s", thorough.to_json())])
    assert entry.result.config["restarts"] == 10


def test_the_command_of_a_correlation_names_what_it_was_asked() -> None:
    config = {
        "models": [{"name": "demo@1"}, {"name": "demo"}],
        "tasks": {"co-segmentation": {}},
        "benchmarks": ["blink"],
    }
    options = {
        "options": {"co-segmentation": {"restarts": 1}},
        "limit": None,
        "select": "max",
        "seed": 0,
    }
    (entry,) = choose(
        [("s.kv", Result("correlate", None, "accuracy", 2, [], config=config | options).to_json())]
    )
    expected = (
        "kvtool correlate s.kv --models demo@1,demo --tasks co-segmentation "
        "--benchmarks blink --restarts 1"
    )
    assert result_command(entry, None) == expected

"""What every sentence and panel of the demo's page says: units, chance, plain names."""

from __future__ import annotations

import re
from functools import cache

import pytest

from kvtool.reporting.articles import Article
from kvtool.reporting.charts import Whiskers
from kvtool.reporting.heatmap import Heatmap, heatmap
from kvtool.reporting.measures import MEASURES, plain_name
from kvtool.reporting.numbers import p_value, probability
from kvtool.reporting.sections import ResultPanel, headlines_of, sections_of
from kvtool.reporting.sentences import sentences_of
from kvtool.reporting.tables import Data
from kvtool.result import Result, Row
from tests.support import studies
from tests.support.demo_page import demo_results, demo_study

BRACKETED = re.compile(r"(\w*) ?-?[\d.]+ \[[^\]]+\](.{0,40})")
UNIT = re.compile(r"(( right)? against -?[\d.]+ \[[^\]]+\])? (%|percentage points|points|nats)")
SCORELESS = "Input-agnostic keys"
COLUMNS = [name for name in MEASURES if "_" in name]
RESULTS = demo_results()


@cache
def panels() -> list[ResultPanel]:
    """Return all panels of the page."""
    study = demo_study()
    sections = sections_of(study, Data(), headlines_of(study))
    return [panel for section in sections for panel in section.panels]


def test_every_score_in_a_headline_has_a_unit() -> None:
    lines = [headline.text for headline in headlines_of(demo_study())]
    assert sum(bool(BRACKETED.search(line)) for line in lines) >= 3
    for line in lines:
        for match in BRACKETED.finditer(line):
            is_free = any(word in line for word in ("AUROC", "Pearson", "Spearman"))
            assert is_free or UNIT.match(match.group(2)), line


@pytest.mark.parametrize("name", ["probe", "knockout", "prefix", "compare", "average", "intervene"])
def test_scores_in_sentences_have_units_and_no_names_of_columns(name: str) -> None:
    lines = sentences_of(RESULTS[name])
    assert lines
    for line in lines:
        for match in BRACKETED.finditer(line):
            assert UNIT.match(match.group(2)), (match.group(0), line)
        assert not any(column in line for column in COLUMNS), line


def test_every_panel_of_scores_has_chance_or_what_stands_for_it() -> None:
    for panel in panels():
        text = " ".join([*panel.leads, *_face_texts(panel.articles[0])])
        words = ("chance", "guessing", "0 is no change", "tokens alike")
        is_free = panel.title.startswith(SCORELESS)
        assert is_free or any(word in text.lower() for word in words), (panel.title, text)


def _face_texts(article: Article) -> list[str]:
    """Return the words of all figures of an article."""
    texts = []
    for chart in article.charts.values():
        for member in chart if isinstance(chart, list) else [chart]:
            texts += [str(getattr(member, name, "")) for name in ("caption", "label", "lines")]
            texts += [str(getattr(member, name, "")) for name in ("charts", "legend", "levels")]
            if isinstance(member, Whiskers):
                texts += [row.name for row in member.rows]
    return texts


def test_conditions_have_the_figures_names_in_sentences() -> None:
    (line,) = (text for text in sentences_of(RESULTS["knockout"]) if text.startswith("Chance"))
    assert "none" not in line
    assert "chosen" not in line
    labels = [row.name for row in _whiskers("knockout").rows]
    assert labels[0] == "nothing changed"


def test_no_line_of_a_figure_stands_twice() -> None:
    for name in ("knockout", "prefix", "surface", "intervene"):
        rows = _whiskers(name).rows
        assert len({row.name for row in rows}) == len(rows)
        for word in ("none", "written", "fused", "permuted", "redistribute:1"):
            assert not any(row.name.startswith(word) for row in rows), name
    # The block that is best without a prefix is the fixed one.
    first = _whiskers("prefix").rows[0]
    assert first.name == "no prefix, layer 4, head 0"


def _whiskers(name: str) -> Whiskers:
    """Return the figure of conditions of a result."""
    study = studies.study(RESULTS[name])
    (section,) = sections_of(study, Data(), [])
    chart = section.panels[0].articles[0].charts["whiskers"]
    assert isinstance(chart, Whiskers)
    return chart


def test_prefixes_say_why_layer_0_is_left_out() -> None:
    assert 0 not in RESULTS["prefix"].config["layers"]
    lead = " ".join(sentences_of(RESULTS["prefix"])[:2])
    assert "layer 0 do not see the text before the picture" in lead


def change_map(values: list[float], best: Row | None = None) -> Heatmap:
    """Return a map of changes in nats, a layer a value."""
    rows: list[Row] = [
        {"kind": "head", "layer": layer, "kv_head": 0, "margin_change": value, "n": 9}
        for layer, value in enumerate(values)
    ]
    result = Result.from_json(
        RESULTS["knockout-each"].to_json() | {"rows": rows, "metric": "margin_change"}
    )
    marked = None if best is None else result.rows[int(best["layer"])]
    return heatmap(result, "head", result.rows, best=marked)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.4059, -1.864, -0.001172], ["+0.41", "-1.86", "+0.00"]),
        ([177.25, 309.9, 98.6], ["177", "310", "99"]),
        ([0.0123, 0.0456], ["0.0123", "0.0456"]),
        ([1.5e-7, 2.5e9], ["1.5e-07", "2.5e+09"]),
    ],
)
def test_numbers_of_a_map_have_few_digits(values: list[float], texts: list[str]) -> None:
    chart = change_map(values)
    assert [cell.text for cell in chart.cells[0] if cell is not None] == texts
    assert chart.cell_rem > max(map(len, texts)) * 0.4


def test_a_map_of_changes_marks_the_strongest() -> None:
    (section,) = sections_of(studies.study(RESULTS["knockout-each"]), Data(), [])
    first = section.panels[0].articles[0].charts["heatmaps"][0]
    (marked,) = (cell for row in first.cells for cell in row if cell is not None and cell.best)
    strongest = max(RESULTS["knockout-each"].rows, key=lambda row: abs(row["margin_change"]))
    assert (marked.layer, marked.kv_head) == (strongest["layer"], strongest["kv_head"])


def test_captions_begin_with_plain_names() -> None:
    assert plain_name("some_column") == "some column"
    for panel in panels():
        for text in _face_texts(panel.articles[0])[:1]:
            assert not any(column in text for column in COLUMNS), (panel.title, text)


def test_small_p_values_are_decimals() -> None:
    assert [p_value(p) for p in (0.0221, 0.0005, 0.00001)] == ["0.022", "0.0005", "< 0.0001"]
    assert [probability(p) for p in (0.0005, 2e-5)] == ["p = 0.0005", "p < 0.0001"]

"""The page's sections: a question each, nothing said twice, models of one task in one panel."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kvtool.registry import EXPERIMENTS, experiment_part
from kvtool.reporting import render
from kvtool.reporting.chapters import CHAPTERS, REMAINDER
from kvtool.reporting.numbers import unit_mark
from kvtool.reporting.sections import chapter_of, headlines_of, sections_of, title_of
from kvtool.reporting.study import QuestionText
from kvtool.reporting.tables import Data, scores_table
from kvtool.result import Result
from tests.support import studies
from tests.support.page import Reader
from tests.support.studies import scored


def test_every_experiment_with_an_article_answers_a_question() -> None:
    for command in EXPERIMENTS.names():
        if experiment_part(command, "article") is not None:
            assert chapter_of(command) in CHAPTERS
            assert chapter_of(command) is not REMAINDER, command
    assert chapter_of("hereafter") is REMAINDER


def test_sections_stand_in_a_readers_order() -> None:
    study = studies.study(*reversed(studies.every_result()))
    sections = sections_of(study, Data(), headlines_of(study))
    assert [section.chapter.id for section in sections] == [
        "values",
        "answers",
        "keys",
        "prefixes",
        "models",
        "others",
    ]


def test_models_of_one_task_and_data_share_a_panel() -> None:
    probes = [studies.probe_result(model=name, seed=seed) for seed, name in enumerate("ab")]
    other_data = studies.probe_result(model="c")
    other_data.config["dataset"] = "pairs"
    study = studies.study(*probes, other_data)
    (section,) = sections_of(study, Data(), [])
    assert [len(panel.articles) for panel in section.panels] == [2, 1]
    assert [panel.overlay is not None for panel in section.panels] == [True, False]
    overlay = section.panels[0].overlay
    assert overlay is not None
    assert [line.name for line in overlay.lines[:2]] == ["a, value, n = 60", "b, value, n = 60"]
    # Two panels of one title are told apart in the outline.
    assert [panel.entry for panel in section.panels] == [
        "Semantic correspondence: semantic-correspondence test",
        "Semantic correspondence: pairs test",
    ]


def test_no_sentence_is_said_twice() -> None:
    page = render(studies.study(*studies.every_result()))
    text = re.sub(r"<script.*", "", page, flags=re.DOTALL)
    matches = re.findall(r'<li>([^<]{40,})</li>|<p class="lead">([^<]{40,})</p>', text)
    sentences = [line for pair in matches for line in pair if line]
    headlines = re.findall(r'<li><a href="#[a-z0-9]+">[^<]+</a> ([^<]+)</li>', text)
    assert len(sentences) > 6
    assert len(headlines) > 3
    everything = [*sentences, *headlines]
    assert len(set(everything)) == len(everything)
    for headline in headlines:
        assert not any(headline in sentence for sentence in sentences)


def test_headlines_are_one_sentence_a_command() -> None:
    results = [
        *studies.every_result(),
        studies.variance_result(bimodal=False),
        replace(studies.prefix_result(), task="foreground-segmentation"),
    ]
    headlines = headlines_of(studies.study(*results))
    lines = {headline.subject: headline.text for headline in headlines}
    assert lines["Keys"].startswith("Blocking keys changed which answers are right in 1 of 2")
    texts = [headline.text for headline in headlines]
    assert (
        "In 1 of 2 sets of pictures the variances of keys part into input-agnostic ones and others."
        in texts
    )
    assert (
        "Of 4 prefixes over 2 tasks and sets of pictures 2 made the best block better and 0 made "
        "it worse (by paired differences)." in texts
    )


def beside_chance(result: Result, exceeds: bool | None) -> Result:
    return replace(result, best={**(result.best or {}), "exceeds_chance": exceeds})


def test_the_headline_of_probes_counts_what_exceeds_chance() -> None:
    verdicts = (True, False, None)
    tasks = ("foreground-segmentation", "co-segmentation", "semantic-correspondence")
    probes = [
        beside_chance(studies.probe_result(task, seed=seed), verdict)
        for seed, (task, verdict) in enumerate(zip(tasks, verdicts, strict=True))
    ]
    (headline,) = headlines_of(studies.study(*probes))
    assert headline.text == (
        "The best block of model scores better than chance in 1 of 2 probes, and better than the "
        "projected features it is given in 3 of 3."
    )
    assert headline.target == "values"


def test_the_headline_of_a_single_set_of_questions_says_guessing() -> None:
    paired = studies.paired_result()
    level = {"n_blocks": 16, "value_only_p": 0.01, "guess_best_value_only": 0.2}
    (headline,) = headlines_of(
        studies.study(replace(paired, best={**(paired.best or {}), **level}))
    )
    assert headline.text.startswith(
        "The values have more right where the model is wrong than the best of 16 guessing blocks: "
    )
    assert headline.text.endswith("against 20.0 % (p = 0.010).")


def test_the_headline_of_a_single_probe_says_chance() -> None:
    probe = studies.probe_result()
    level = {"chance": 0.05, "chance_kind": "random point", "chance_max": 0.1}
    for exceeds, words in ((True, "above chance"), (False, "no better than chance")):
        best = {**(probe.best or {}), **level, "exceeds_chance": exceeds}
        study = studies.study(replace(probe, best=best))
        (headline,) = headlines_of(study)
        what = "random point, 5.0 %; the best of as many blocks that know nothing 10.0"
        assert headline.text.endswith(f", {words} ({what}).")
        # The panel names the block again, so that its "It" stands for something.
        (section,) = sections_of(study, Data(), [headline])
        leads = section.panels[0].leads
        assert leads[0].startswith("The best block, value, layer ")
        assert leads[1].startswith(f"It is {words}")


@pytest.mark.parametrize(
    ("metric", "mark"), [("score", ", points"), ("acc", ", %"), ("total", ", points")]
)
def test_sums_of_percentages_are_no_percent(metric: str, mark: str) -> None:
    """MME's scores reach 200 a subset."""
    row = {"condition": "none", "n": 60, **scored("score", 180.0), **scored("acc", 93.0)}
    row |= scored("total", 720.0)
    result = Result("knockout", "mme", "score", 60, [row], unit="percent")
    assert unit_mark(result, metric) == mark
    columns = scores_table(result, [("none", row)], "", "x").columns
    assert f"{metric}{mark}" in columns


def test_a_fraction_named_score_is_a_percentage() -> None:
    assert unit_mark(Result("average", None, "score", 6, [])) == ", %"


def test_titles_name_command_and_task() -> None:
    assert title_of(studies.knockout_result()) == "Knockout: POPE"
    assert title_of(studies.probe_result("co-segmentation")) == "Co-segmentation"
    assert title_of(studies.unknown_result()) == "Hereafter"


def test_cards_have_question_options_and_who_chose_which() -> None:
    result = studies.paired_result()
    for item in result.items:
        item |= {"label": "(A)", "value": "(A)", "said": "(B)", "answer": "It is (B)"}
    nasty = studies.NASTY
    questions = {(0, "q0"): QuestionText(f"Which {nasty}?", ("the cat", nasty))}
    reader = Reader(render(studies.study(result, questions=questions)))
    text = " ".join(reader.text.split())
    assert f"Which {nasty}? (A) the cat right values (B) {nasty} model questionq0" in text
    # Of the others nothing is known but the letters.
    assert "right(A)values(A)modelIt is (B)questionq1" in text

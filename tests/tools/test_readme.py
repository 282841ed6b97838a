"""README's figures are those of the demo's results that are kept beside its pictures."""

from __future__ import annotations

from dataclasses import replace

from kvtool.result import Result
from tests.support.intervene_results import intervene_result
from tests.tools import readme


def test_the_pages_figures_are_those_of_the_kept_results() -> None:
    page = readme.README.read_text()
    assert readme.filled(page, readme.saved()) == page


def test_another_score_changes_the_page() -> None:
    demo = readme.saved()
    first = demo["co-segmentation"]
    best = {**(first.best or {}), first.metric: 0.5}
    page = readme.README.read_text()
    changed = readme.filled(page, demo | {"co-segmentation": replace(first, best=best)})
    assert changed != page
    assert "50.0 [" in changed


def test_every_part_is_on_the_page_once() -> None:
    page = readme.README.read_text()
    for name in readme.parts(readme.saved()):
        assert page.count(f"<!-- demo: {name} -->") == 1
    assert (
        page.count("<!-- demo: ") == page.count("<!-- end -->") == len(readme.parts(readme.saved()))
    )


def test_what_the_page_says_in_words_holds() -> None:
    demo = readme.saved()
    exceeding = [task for task in readme.TASKS if readme.exceeds_chance(demo[task])]
    assert len(exceeding) == 4
    assert {"semantic-segmentation", "referring-expression"}.isdisjoint(exceeding)
    at_first = [task for task in readme.TASKS if (demo[task].best or {})["layer"] == 0]
    assert len(at_first) == 5
    image = [row for row in demo["sae"].rows if row["condition"] == "image"]
    noise = [row for row in demo["sae"].rows if row["condition"] in ("random-norm", "untrained")]
    assert min(row["fvu"] for row in image) > max(row["fvu"] for row in noise)


def test_every_head_alone_stands_among_the_sentences() -> None:
    demo = readme.saved()
    row = {"layer": 2, "kv_head": 1, "margin_change": -0.5, "margin_holm_p": 0.01}
    config = demo["knockout"].config | {"each": True, "q_heads": [{}]}
    rows = [row | {"mcnemar_holm_p": 1.0}]
    result = Result("knockout", "mme", "margin_change", 80, rows, config=config, unit="nats")
    changed = intervene_result()
    changed = replace(changed, config=changed.config | {"model": readme.MODEL})
    quotes = readme.quoted([*demo.values(), result, changed])
    assert quotes["knockout"].rows == demo["knockout"].rows
    looks = readme.parts(quotes)["looks"]
    assert "1 of 1 head change the answers' margin over 80 questions" in looks

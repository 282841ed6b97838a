"""The page's article about model and values on the same questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.asking.paired.readings import letter
from kvtool.reporting import chapters, charts
from kvtool.reporting.articles import Article
from kvtool.reporting.commands import UNWORDED, WORDED, block_flags, flags
from kvtool.reporting.numbers import amount, interval, plural, probability
from kvtool.reporting.sentences import SURE, chosen_how
from kvtool.reporting.study import ITEMS_SHOWN, KeptResult, Study
from kvtool.reporting.tables import Data, scores_table
from kvtool.result import Result, Row, best_row, block_name

CHAPTER = chapters.ANSWERS
TITLE = "Values beside the model"

CELLS = (
    ("both", "both right"),
    ("value_only", "values alone"),
    ("model_only", "the model alone"),
    ("neither", "neither"),
)


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of a paired result: cells, blocks, and questions that the values alone
    answer."""
    result = study.kept[position].result
    row = result.best or best_row(result.rows, "value") or {}
    ends = ("", "_low", "_high")
    cells = []
    for field, name in CELLS:
        if row.get(field) is not None:
            shares = {f"share{end}": row.get(f"{field}{end}") for end in ends}
            cells.append((name, shares, f"c-{field}"))
    # Beside what values alone have right stands what guessing would have.
    if row.get("guess_best_value_only") is not None:
        shares = {f"share{end}": row[f"guess_best_value_only{end}"] for end in ends}
        cells.insert(2, (f"the same, best of {row['n_blocks']} guessing", shares, "c-neither"))
    chart = charts.whiskers(
        result, cells, "share", f"{block_name(row)}: share of questions, %", bars=True
    )
    labeled = [(block_name(block_row), block_row) for block_row in result.rows]
    tables = [scores_table(result, labeled, "Blocks", summary.rows)]
    values_alone = [item for item in result.items if item.get("cell") == "value_only"]
    if result.items:
        data.add(f"{summary.rows}-questions", result.items)
    return replace(
        summary,
        template="paired.html",
        # The chart says what the first sentence says of the cells.
        findings=summary.findings[1:],
        charts={
            "whiskers": chart,
            "questions": [_question(item, position, study) for item in values_alone[:ITEMS_SHOWN]],
            "n_questions": len(values_alone),
            "items": f"{summary.rows}-questions" if result.items else None,
        },
        tables=tables,
    )


def _question(item: Row, position: int, study: Study) -> dict[str, Any]:
    """Return a question, its options with who chose which, and its pictures.

    These are marked ones where the result names them, else the images. Where the text is not known
    any more, there are no options.
    """
    stored = study.kept[position]
    names = item.get("files") or item.get("images") or ()
    thumbnails = [
        study.thumbnails.get((stored.store, str(stored.run), str(name))) for name in names
    ]
    question = study.questions.get((position, str(item["id"])))
    choices = [] if question is None else question.choices
    facts = [("right", item.get("label")), ("values", item.get("value"))]
    if item.get("said") in [letter(index) for index in range(len(choices))]:
        facts = []  # the options say all of it
    else:
        facts.append(("model", item.get("answer")))
    return {
        **item,
        "facts": [*facts, ("question", item["id"])],
        "text": "" if question is None else question.text,
        "choices": [(letter(index), text) for index, text in enumerate(choices)],
        "drawn": [thumbnail for thumbnail in thumbnails if thumbnail is not None],
    }


def paired_cells(result: Result, row: Row) -> str:
    """Say what values know that the model does not say, and the other way round."""
    cells = ", ".join(
        f"{name} {interval(result, row, field)}"
        for name, field in (
            ("both right", "both"),
            ("values alone", "value_only"),
            ("model alone", "model_only"),
            ("neither", "neither"),
        )
    )
    return f"{block_name(row).capitalize()}, percent of {plural(row['n'], 'question')}: {cells}."


def paired_test(result: Result, row: Row) -> str:
    """Say whether values or model answer better, by McNemar's test."""
    value = row.get("value")
    model = row.get("model")
    p = row.get("mcnemar_p")
    # Chosen as the best on these questions, a block is better than the model by the choice alone.
    if value is not None and model is not None and value > model:
        p = row.get("better_p", p)
    sides = f"values {amount(result, row, 'value')}, model {amount(result, row, 'model')}"
    if value is None or model is None or p is None:
        return f"Which of them answers better was not tested: {sides}."
    if p < SURE and value != model:
        subject = "The values answer" if value > model else "The model answers"
        than = "the model" if value > model else "the values"
        return f"{subject} more questions right than {than}: {sides} ({probability(p)})."
    return f"Values and model are not distinguishable: {sides} ({probability(p)})."


def beside_guessing(result: Result, row: Row) -> Iterator[str]:
    """Set the best block beside blocks that guess: all answers, then those the model has wrong."""
    n_blocks = row.get("n_blocks", 1)
    guessing = f"the best of {n_blocks} guessing blocks" if n_blocks > 1 else "a guessing block"
    for score, guess, test, what in (
        ("value", "chance_max", "value_p", "questions right"),
        ("value_only", "guess_best_value_only", "value_only_p", "right where the model is wrong"),
    ):
        p = row.get(test)
        if p is None:
            continue
        sides = f"{interval(result, row, score)} against {amount(result, row, guess)}"
        if p < SURE:
            yield f"The values have more {what} than {guessing}: {sides} ({probability(p)})."
        else:
            yield (
                f"The values have no more {what} than {guessing} may: {sides} ({probability(p)}), "
                "which is no better than chance."
            )


def headline(results: Sequence[Result]) -> str | None:
    """Say in how many sets of questions the values have more right, where the model is wrong, than
    blocks that guess; of a single set whether they have."""
    tests = [(result.best or {}).get("value_only_p") for result in results]
    p_values = [p for p in tests if p is not None]
    if not p_values:
        return None
    if len(results) == 1:
        return list(beside_guessing(results[0], results[0].best or {}))[-1]
    count = sum(p < SURE for p in p_values)
    return (
        f"In {count} of {len(p_values)} sets of questions the values know more of what the model "
        "gets wrong than blocks that guess would (raw p below 0.05)."
    )


def sentences(result: Result) -> Iterator[str]:
    """Say what the cells show, a sentence each."""
    row = result.best or best_row(result.rows, "value")
    if row is not None:
        yield paired_cells(result, row)
        yield from beside_guessing(result, row)
        yield paired_test(result, row)
        if row.get("select") == "max":
            yield chosen_how(result)


def command(stored: KeptResult, config: Mapping[str, Any], info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    arguments = [
        "paired",
        stored.store,
        str(stored.result.task),
        *flags({"run": config.get("run")}),
    ]
    arguments += block_flags(config.get("blocks", []), info)
    values = {
        name: config.get(name) for name in ("select", "seed", "n", "max_new_tokens", "folds", "c")
    }
    values |= {name: config.get(name) for name in WORDED}
    values["reading"] = "pck" if config.get("metric") == "value_pck" else None
    return arguments + flags(values, {"select": "max", "seed": 0, "max_new_tokens": 16, **UNWORDED})

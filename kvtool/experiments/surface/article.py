"""The page's article about model and values together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kvtool.experiments.surface.words import half_rows, label, row_of
from kvtool.reporting import chapters
from kvtool.reporting.articles import Article
from kvtool.reporting.commands import UNWORDED, WORDED, block_flags, flags
from kvtool.reporting.conditions import conditions_of
from kvtool.reporting.numbers import amount, interval, probability, show, unit_word
from kvtool.reporting.sentences import SURE
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data
from kvtool.result import Result, Row, block_name

CHAPTER = chapters.ANSWERS
TITLE = "Model and values together"


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of the model, its values, and both together."""
    return conditions_of(summary, study.kept[position].result, data, label)


def headline(results: Sequence[Result]) -> str | None:
    """Say on how many sets of questions the values' evidence makes the model's answers better."""
    if len(results) < 2:
        return None
    rows = [row_of(result, "fused") for result in results]
    count = sum(row["permuted_p"] < SURE and row["difference"] > 0 for row in rows)
    return (
        f"In {count} of {len(rows)} sets of questions adding the values' evidence makes more of "
        "the model's answers right (raw p below 0.05)."
    )


def sentences(result: Result) -> Iterator[str]:
    """Say whether the values' evidence makes answers better, and what it could, a sentence each."""
    model, value, fused = (row_of(result, name) for name in ("model", "value", "fused"))
    yield _effect(result, model, fused)
    yield (
        f"The values alone have {amount(result, value)} right, either of both "
        f"{amount(result, row_of(result, 'either'))}, the model as it writes "
        f"{amount(result, row_of(result, 'written'))}; chance is {show(result, model['chance'])} "
        f"{unit_word(result)}."
    )
    if fused["gained"] is not None and fused["lost"] is not None:
        yield (
            f"Of what the values alone have right {amount(result, fused, 'gained')} is gained, "
            f"of what the model has right {amount(result, fused, 'lost')} is lost."
        )
    halves = [
        f"{block_name({**row, 'condition': None, 'subset': None})} with weight {row['weight']:.3g}"
        for row in half_rows(result)
    ]
    yield f"Chosen on the other half of the pictures: {', and '.join(halves)}."


def _effect(result: Result, model: Row, fused: Row) -> str:
    """Say whether model and values together answer more questions right than the model."""
    p = fused["permuted_p"]
    permuted = row_of(result, "permuted")
    scores = f"{interval(result, fused)} right against {amount(result, model)}"
    test = (
        f"with values of other questions {amount(result, permuted)}, {probability(p)}; "
        f"McNemar's {probability(fused['mcnemar_p'])}"
    )
    # Values of other questions are the control: evidence that fits no question must not help.
    if p < SURE and fused["difference"] > 0:
        return f"With its values' evidence the model answers more questions: {scores} ({test})."
    return (
        f"The values' evidence makes no answers better that could be told: {scores} ({test}), "
        "which is no better than chance."
    )


def command(stored: KeptResult, config: Mapping[str, Any], info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    values = {
        "blocks": config.get("n_blocks"),
        **{name: config.get(name) for name in ("n", "seed", "max_new_tokens", *WORDED)},
    }
    defaults = {"blocks": 1, "seed": 0, "max_new_tokens": 16, **UNWORDED}
    arguments = ["surface", stored.store, stored.result.task or ""]
    return [
        *arguments,
        *flags({"run": config.get("run")}),
        *block_flags(config.get("blocks", []), info),
        *flags(values, defaults),
    ]

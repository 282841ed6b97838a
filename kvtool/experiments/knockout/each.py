"""`kvtool knockout --each`: every head alone, in one pass over the questions.

What a head does to answers is the change of accuracy and of the answer's margin once the head is
blocked from the picture; see kvtool.asking.margins for the margin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvtool.asking.answering import Answerer
from kvtool.asking.conditions import AnswerSheet
from kvtool.asking.head_work import HeadWork
from kvtool.asking.margin_scores import margin_p, margin_scores
from kvtool.asking.margins import SingleHeads
from kvtool.errors import KvtoolError
from kvtool.models.methods import Head
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row, versions
from kvtool.stats.bootstrap import Array
from kvtool.stats.mcnemar import mcnemar
from kvtool.stats.multiple import with_holm

TESTS = {"margin_p": "margin_holm_p", "mcnemar_p": "mcnemar_holm_p"}
"""Each test's p, and the same corrected for the number of heads."""


def ask_alone(work: HeadWork, answerer: Answerer, progress: Progress) -> SingleHeads:
    """Ask with every head alone blocked. Raises BusyError; see SingleHeads.ask."""
    heads = tuple(sorted(head for entry in work.conditions[1:2] for head in entry.heads))
    study = SingleHeads(answerer, heads)
    study.ask(work.questions, [*map(work.benchmark.truth, work.questions)], progress)
    return study


def single_heads(work: HeadWork, study: SingleHeads) -> Result:
    """Score what was asked with every head alone blocked.

    Questions without options, and those whose logits are not finite, are left out and named. Raises
    KvtoolError where none remains.
    """
    benchmark = work.benchmark
    skipped = [*study.skipped, *work.skipped]
    indices = sorted(study.margins)
    if not indices:
        raise KvtoolError(
            f"knockout --each: expected questions whose options have margins, found none: "
            f"{skipped[0]}"
        )
    margins = np.array([study.margins[index] for index in indices])
    questions = [work.questions[index] for index in indices]
    # Pictures are told by digest: a benchmark may hold one under several ids.
    digests = {picture.id: picture.digest for picture in work.run.pictures}
    sheet = AnswerSheet(benchmark, questions, digests, work.seed)
    # The model as it is, set beside itself: its changes are 0, its accuracy has an interval.
    none = margin_scores(margins[:, [0, 0]], sheet.pictures, sheet.seed)
    return Result(
        command="knockout",
        task=benchmark.name,
        metric="margin_change",
        n=len(questions),
        rows=head_rows(margins, study.heads, sheet),
        config=work.settings | {"none": none, "notes": []},
        versions=versions(),
        n_skipped=len(skipped),
        skipped=skipped[:MAX_REASONS],
        unit="nats",
    )


def head_rows(margins: Array, heads: Sequence[Head], sheet: AnswerSheet) -> list[Row]:
    """Return a row for each head.

    Args:
        margins: (question, 1 + head), first without a knockout.
        heads: (layer, kv_head) of the others.
        sheet: The questions.
    """
    # Questions that are asked twice of one picture count once in a test that takes them as
    # independent.
    distinct = np.unique(sheet.distinct, return_index=True)[1]
    is_right = margins > 0
    rows: list[Row] = []
    for column, (layer, kv_head) in enumerate(heads, 1):
        row: Row = {"layer": layer, "kv_head": kv_head}
        # Column 0 is the same for all heads: each is compared with the model as it is.
        row |= margin_scores(margins[:, [0, column]], sheet.pictures, sheet.seed)
        test = mcnemar(is_right[distinct, 0], is_right[distinct, column])
        row |= {"n": len(margins), "n_pictures": len(np.unique(sheet.pictures))}
        row |= {"n_lost": test.lost, "n_gained": test.gained, "mcnemar_p": test.p}
        row["margin_p"] = margin_p(margins[:, column] - margins[:, 0], sheet.pictures)
        rows.append(row)
    # One family of tests for all heads: some would differ by chance alone.
    for p, corrected in TESTS.items():
        rows = with_holm(rows, p, corrected, lambda _: None)
    return rows

"""`kvtool knockout --each`: every head alone, in one pass over the questions.

What a head does to answers is the change of accuracy and of the answer's margin once the head is
blocked from the picture; see kvtool.asking.margins for the margin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvtool.asking.answering import Answerer
from kvtool.asking.conditions import AnswerSheet
from kvtool.asking.heads import Head
from kvtool.asking.margins import SingleHeads
from kvtool.asking.records import scored
from kvtool.errors import KvtoolError
from kvtool.experiments.knockout.work import KnockoutWork
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row, versions
from kvtool.stats.bootstrap import Array, pooled
from kvtool.stats.mcnemar import mcnemar
from kvtool.stats.multiple import with_holm

TESTS = {"margin_p": "margin_holm_p", "mcnemar_p": "mcnemar_holm_p"}
"""Each test's p, and the same corrected for the number of heads."""


def single_heads(work: KnockoutWork, answerer: Answerer, progress: Progress) -> Result:
    """Ask with every head alone blocked, and score it.

    Questions without options, and those whose logits are not finite, are left out and named. Raises
    KvtoolError where none remains.
    """
    benchmark = work.benchmark
    heads = tuple(sorted(head for entry in work.conditions[1:2] for head in entry.heads))
    study = SingleHeads(answerer, heads)
    study.ask(work.questions, [*map(benchmark.truth, work.questions)], progress)
    skipped = [*study.skipped, *work.skipped]
    indices = sorted(study.margins)
    if not indices:
        raise KvtoolError(
            f"knockout --each: expected questions whose options have margins, found none: "
            f"{skipped[0]}"
        )
    margins = np.array([study.margins[index] for index in indices])
    questions = [work.questions[index] for index in indices]
    digests = {picture.id: picture.digest for picture in work.run.pictures}
    sheet = AnswerSheet(benchmark, questions, digests, work.seed)
    return Result(
        command="knockout",
        task=benchmark.name,
        metric="margin_change",
        n=len(questions),
        rows=head_rows(margins, heads, sheet),
        config=work.settings | {"none": _score(margins[:, [0, 0]], sheet), "notes": []},
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
        row |= _score(margins[:, [0, column]], sheet)
        test = mcnemar(is_right[distinct, 0], is_right[distinct, column])
        row |= {"n": len(margins), "n_pictures": len(np.unique(sheet.pictures))}
        row |= {"n_lost": test.lost, "n_gained": test.gained, "mcnemar_p": test.p}
        row["margin_p"] = margin_p(margins[:, column] - margins[:, 0], sheet.pictures)
        rows.append(row)
    for p, corrected in TESTS.items():
        rows = with_holm(rows, p, corrected, lambda _: None)
    return rows


def _score(margins: Array, sheet: AnswerSheet) -> Row:
    """Return the accuracy and the mean margin, and by how much they differ from those without a
    knockout, with intervals by picture.

    margins: (question, 2), without a knockout and with one.
    """
    units = np.column_stack([np.ones(len(margins)), margins, margins > 0])

    def scores(sums: Array) -> dict[str, Array]:
        """Score sums (..., 5): number, two margins, two numbers of right answers."""
        n, margin_before, margin, right_before, right = np.moveaxis(sums, -1, 0)
        return {
            "margin_change": (margin - margin_before) / n,
            "accuracy_change": (right - right_before) / n,
            "margin": margin / n,
            "accuracy": right / n,
        }

    # Of these scores the accuracy alone has an edge that it cannot pass.
    return scored(units, scores, clusters=sheet.pictures, seed=sheet.seed, top={"accuracy": 1.0})


def margin_p(changes: Array, pictures: Array) -> float:
    """Test whether margins change; return p, two-sided: Wilcoxon's signed-rank test of the
    pictures' sums.

    Changes by draws of signs cannot be told from chance once they are corrected for hundreds of
    heads; ranks have as small a p as the pictures allow.

    Args:
        changes: (question,).
        pictures: The number of each question's picture, (question,).
    """
    from scipy.stats import wilcoxon

    sums = pooled(changes[:, None], None, pictures)[0][:, 0]
    return float(wilcoxon(sums).pvalue) if np.any(sums) else 1.0

"""Several results on one screen: scores beside what knows nothing, and a sentence for each of the
others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvtool.reporting.numbers import interval, model_name, show
from kvtool.reporting.sentences import sentences_of
from kvtool.result import Result, Row

BASELINES = ("projected", "vision")


def score_rows(results: Sequence[Result]) -> list[Row]:
    """Return a row for each probe: the best block, chance, and the best baselines, as text."""
    rows = []
    for result in results:
        if result.command != "probe" or result.best is None:
            continue
        best = result.best
        row: Row = {"task": result.task, "n": result.n, "best": interval(result, best)}
        row["chance"] = show(result, best.get("chance"))
        # The best baseline of each kind is what the best block has to exceed.
        for kind in BASELINES:
            rivals = [line for line in result.baselines if line["kind"] == kind]
            top = result.best_of(rivals)
            row[kind] = "" if top is None else show(result, top[result.metric])
        rows.append(row)
    return rows


def findings(results: Sequence[Result]) -> Iterator[str]:
    """Yield a line for each result that is no probe: what it is about, and its first sentence."""
    for result in results:
        if result.command == "probe":
            continue
        sentence = next(iter(sentences_of(result)), None)
        if sentence is not None:
            subject = " ".join(filter(None, [result.command, result.task]))
            split = f" on {result.config['split']}" if result.command == "prefix" else ""
            yield f"{subject}{split}, {model_name(result)}: {sentence}"

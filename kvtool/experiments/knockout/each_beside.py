"""What else a store knows of the heads that were blocked alone: how much they attend to the
picture, by `kvtool attend`, and what their values know, by `kvtool probe`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from kvtool.reporting.study import choose
from kvtool.result import Result, Row, is_summary
from kvtool.stats.rank_relations import rank_correlations
from kvtool.store import Store
from kvtool.store.kept import extent

MASS = "mass"
MODEL_SETTINGS = ("model", "revision", "prefix")
"""Settings that results about the same heads have in common."""
Head = tuple[int, int]


def with_others(result: Result, store: Store, key: str) -> Result:
    """Return a result of every head alone beside what the store knows of the heads, and keep it
    so; other results as they are.
    """
    if not result.config.get("each"):
        return result
    stored_results = choose((str(store.path), record) for record in store.results())
    completed = beside(result, [entry.result for entry in stored_results])
    if completed != result:
        store.keep(key, completed.to_json())
    return completed


def beside(result: Result, results: Iterable[Result]) -> Result:
    """Return every head alone with the measures of the same heads in other results, and the rank
    correlations of the change of the margin with each, over heads.
    """
    sources = list(_sources(result, results))
    rows = [dict(row) for row in result.rows]
    # A head that another result lacks keeps the place of its measure, empty.
    for source in sources:
        scores = _masses(source) if source.command == "attend" else _probe_scores(source)
        for row in rows:
            row[_measure(source)] = scores.get((row["layer"], row["kv_head"]))
    measures = [_measure(source) for source in sources]
    # Over heads: do those that matter for answers also attend or know more?
    correlations = rank_correlations(rows, result.metric, measures, seed=result.config["seed"])
    q_heads = [row for source in sources for row in _q_heads(rows, source)]
    config = {"beside": [*map(_description, sources)], "correlations": correlations}
    config |= {"q_heads": q_heads}
    return replace(result, rows=rows, config=result.config | config)


def _sources(result: Result, results: Iterable[Result]) -> Iterator[Result]:
    """Yield the results to set beside: attention's, and one of each probed task."""
    by_measure: dict[str, list[Result]] = {}
    for source in results:
        is_attention = source.command == "attend" and source.task is None
        is_same = all(source.config.get(name) == result.config.get(name) for name in MODEL_SETTINGS)
        # Heads of other weights or prefixes are other heads.
        if is_same and (is_attention or source.command == "probe"):
            by_measure.setdefault(_measure(source), []).append(source)
    # Attention first, then tasks in the reader's order.
    for measure in sorted(by_measure, key=lambda name: name != MASS):
        yield max(by_measure[measure], key=lambda source: _closeness(result, source))


def _closeness(result: Result, source: Result) -> tuple[bool, tuple[int, int]]:
    """Rank the results about one measure: of the same pictures first, then the largest."""
    return source.config.get("dataset") == result.config.get("dataset"), extent(source)


def _measure(source: Result) -> str:
    """Return the field that a result's numbers have beside the heads: the task of a probe."""
    return source.task or MASS


def _masses(source: Result) -> dict[Head, float]:
    """Return by head the mean mass of the query heads that read it."""
    # Several query heads read one KV head: their masses are averaged.
    readers: dict[Head, list[float]] = {}
    for row in source.rows:
        if row[MASS] is not None:
            readers.setdefault((row["layer"], row["kv_head"]), []).append(row[MASS])
    return {head: float(np.mean(masses)) for head, masses in readers.items()}


def _probe_scores(source: Result) -> dict[Head, float]:
    """Return by head the score of its values."""
    return {
        (row["layer"], row["kv_head"]): row[source.metric]
        for row in source.rows
        if row.get("kind") == "value" and is_summary(row) and row.get(source.metric) is not None
    }


def _q_heads(rows: Sequence[Row], source: Result) -> Iterator[Row]:
    """Yield the query heads of attention with their KV heads, and what blocking these changes."""
    if source.command != "attend":
        return
    changes = {(row["layer"], row["kv_head"]): row["margin_change"] for row in rows}
    for row in source.rows:
        if (row["layer"], row["kv_head"]) in changes:
            labels = {name: row[name] for name in ("layer", "q_head", "kv_head", MASS)}
            yield labels | {"margin_change": changes[row["layer"], row["kv_head"]]}


def _description(source: Result) -> Row:
    """Return what a measure is and what it was computed from."""
    config = source.config
    return {
        "measure": _measure(source),
        "command": source.command,
        "metric": MASS if source.command == "attend" else source.metric,
        "unit": source.unit,
        "higher_is_better": source.higher_is_better,
        "n": source.n,
        **{name: config.get(name) for name in ("run", "dataset", "split")},
    }


def measures_of(result: Result) -> Sequence[Row]:
    """Return the descriptions of the measures beside a result."""
    descriptions: list[Row] = result.config.get("beside", [])
    return descriptions

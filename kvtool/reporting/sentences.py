"""What was found, in sentences made from a result's numbers. None claims more than its interval or its test carries."""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.registry import experiment_part
from kvtool.reporting.numbers import interval, relation
from kvtool.result import Result, Row, best_row, block_name

SURE = 0.05
"""A test's p below which a difference is called one."""

KINDS = {"projected": "the projected features", "vision": "the vision tower's output"}


def best_block(result: Result) -> str:
    """Which block is best, and how it was chosen."""
    best = result.best
    if best is None or best.get(result.metric) is None:
        return f"{result.metric} is defined for no block."
    head = f"The best block, {block_name(best)}, scores {interval(result, best)} {result.metric} (n = {best['n']})."
    return f"{head} {chosen_how(result)}"


def chosen_how(result: Result) -> str:
    if result.best is not None and result.best.get("select") == "split":
        return "It was chosen on one half of the data and scored on the other."
    blocks = {
        (row["kind"], row["layer"], row["kv_head"])
        for row in result.rows
        if row["kind"] in ("key", "value")
    }
    among = f" of {len(blocks)}" if len(blocks) > 1 else ""
    return f"Optimistic: chosen as the best{among} on the same data that it is scored on."


def against_baseline(result: Result, best: Row, baseline: Row) -> str:
    """The best block beside a baseline: above or below only where the two intervals are apart."""
    what = baseline_name(result, baseline)
    score = interval(result, baseline)
    match relation(best, baseline, result.metric):
        case "not distinguishable":
            return f"It is not distinguishable from {what}, {score}: the intervals overlap."
        case "without an interval":
            return f"{capitalized(what)}: {score}; without two intervals nothing is said of a difference."
        case side:
            return f"It is {side} {what}, {score}."


def baseline_name(result: Result, row: Row) -> str:
    """E.g. "the vision tower's output of demo-tower"."""
    what = KINDS.get(row["kind"], block_name(row))
    other = row.get("run") not in (None, result.config.get("run"))
    layer = f" (layer {row['layer']})" if row["kind"] == "vision" else ""
    return f"{what}{layer}" + (f" of {row.get('model') or row['run']}" if other else "")


def between_models(results: Sequence[Result]) -> str | None:
    """The two best models on one task and data set, without prefix; None for fewer than two, or where they are not
    comparable: other data, other sampling units, or several results of one model."""
    bare = [found for found in results if found.config.get("prefix") in (None, "none")]
    scored = [
        (found.best, found)
        for found in bare
        if found.best and found.best.get(found.metric) is not None
    ]
    alike = {tuple(found.config.get(name) for name in ("dataset", "split")) for found in bare}
    alike |= {(found.metric, found.n) for found in bare}
    models = {found.config.get("model") for found in bare}
    if len(scored) < 2 or len(alike) > 2 or len(models) < len(bare):
        return None
    ranked = sorted(scored, key=lambda pair: -float(pair[0][pair[1].metric]))
    first, second = (best for best, _ in ranked[:2])
    names = [f"{found.config.get('model')} ({interval(found, best)})" for best, found in ranked[:2]]
    match relation(first, second, results[0].metric):
        case "above":
            return f"Of {len(scored)} models the best block of {names[0]} is above that of the next, {names[1]}."
        case "not distinguishable":
            return f"The best blocks of {names[0]} and {names[1]} are not distinguishable."
    return f"Best blocks: {names[0]}, {names[1]}; without two intervals nothing is said of a difference."


def leading_baselines(result: Result) -> list[Row]:
    """The best row of each kind and run among the baselines, but for the best block itself."""
    groups: dict[tuple[object, object], list[Row]] = {}
    for row in result.baselines:
        groups.setdefault((row.get("run"), row.get("kind")), []).append(row)
    best = result.best or {}
    here = {name: best.get(name) for name in ("kind", "layer", "kv_head")} | {
        "run": result.config.get("run")
    }
    found = [best_row(group, result.metric) for group in groups.values()]
    return [
        row
        for row in found
        if row is not None and any(row.get(name) != here[name] for name in here)
    ]


def capitalized(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def sentences_of(result: Result) -> list[str]:
    """The sentences about one result, as its experiment makes them; none for a command that is not known."""
    part = experiment_part(result.command, "article")
    return [] if part is None else list(part.sentences(result))

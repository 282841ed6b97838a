"""What a result shows, in sentences about its numbers. None claims more than its interval or its
test carries."""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.registry import experiment_part
from kvtool.reporting.differences import comparisons
from kvtool.reporting.measures import plain_name, short_measure
from kvtool.reporting.numbers import amount, better, capitalized, ranges, relation
from kvtool.result import Result, Row, block_name

SURE = 0.05
"""A test's p below which a difference is called one."""

KINDS = {"projected": "the projected features", "vision": "the vision tower's output"}


def best_block(result: Result) -> str:
    """Say which block is best, and how it was chosen."""
    best = result.best
    if best is None or best.get(result.metric) is None:
        return f"{capitalized(plain_name(result.metric))} is defined for no block."
    direction = "" if result.higher_is_better else "; lower is better"
    score = f"{amount(result, best)} ({short_measure(result.metric)}, n = {best['n']}{direction})"
    return f"The best block, {block_name(best)}, scores {score}. {chosen_how(result)}"


def chosen_how(result: Result) -> str:
    """Say how the best block was chosen, and what follows for its score."""
    if result.best is not None and result.best.get("select") == "split":
        return "It was chosen on one half of the data and scored on the other."
    # The more blocks there were to choose from, the more the best one is flattered.
    blocks = {
        (row["kind"], row["layer"], row["kv_head"])
        for row in result.rows
        if row["kind"] in ("key", "value")
    }
    among = f" of {len(blocks)}" if len(blocks) > 1 else ""
    layers = sorted({int(layer) for _, layer, _ in blocks})
    if layers and layers[0] > 0:
        among += f" in layers {ranges(layers)}, the only ones that were probed,"
    return f"Optimistic: chosen as the best{among} on the same data that it is scored on."


def against_baseline(
    result: Result, best: Row, baseline: Row, compared: Sequence[Result] = ()
) -> str:
    """Set the best block beside a baseline: above or below only where the two intervals are apart.

    Where `kvtool compare` set the baseline's run beside this one (`compared`), its paired
    difference speaks.
    """
    run = baseline.get("run")
    if run not in (None, result.config.get("run")):
        paired = next(comparisons(compared, result, str(run), baseline["kind"]), None)
        if paired is not None:
            return paired
    what = baseline_name(result, baseline)
    score = amount(result, baseline)
    match relation(best, baseline, result.metric):
        case "not distinguishable":
            return f"It is not distinguishable from {what}, {score}: the intervals overlap."
        case "without an interval":
            return (
                f"{capitalized(what)}: {score}; without two intervals nothing is said of a "
                "difference."
            )
        case side:
            return f"It is {side} {what}, {score}."


def baseline_name(result: Result, row: Row) -> str:
    """Return a baseline's name, e.g. "the vision tower's output of demo-tower"."""
    what = KINDS.get(row["kind"], block_name(row))
    is_other_run = row.get("run") not in (None, result.config.get("run"))
    layer = f" (layer {row['layer']})" if row["kind"] == "vision" else ""
    return f"{what}{layer}" + (f" of {row.get('model') or row['run']}" if is_other_run else "")


def between_models(results: Sequence[Result], compared: Sequence[Result] = ()) -> str | None:
    """Compare the two best models on one task and data set, without prefix.

    Where `kvtool compare` set their runs side by side (`compared`), its paired difference speaks;
    else two intervals, which show less. It is None for fewer than two, or where they are not
    comparable: other data, other sampling units, or several results of one model.
    """
    scored = _comparable_bests(results)
    if len(scored) < 2:
        return None
    side = better(results[0])
    sign = -1 if side == "above" else 1
    ranked = sorted(scored, key=lambda pair: sign * float(pair[0][pair[1].metric]))
    (first, first_result), (second, second_result) = ranked[:2]
    second_run = str(second_result.config.get("run"))
    # A paired difference tells more than two intervals, where there is one.
    paired = next(comparisons(compared, first_result, second_run), None)
    if paired is not None:
        return f"Of {len(scored)} models these two are the best. {paired}"
    names = [
        f"{result.config.get('model')} ({amount(result, best)})" for best, result in ranked[:2]
    ]
    match relation(first, second, results[0].metric):
        case relative if relative == side:
            return (
                f"Of {len(scored)} models the best block of {names[0]} is {side} that of the next, "
                f"{names[1]}."
            )
        case "not distinguishable":
            return f"The best blocks of {names[0]} and {names[1]} are not distinguishable."
    return (
        f"Best blocks: {names[0]}, {names[1]}; without two intervals nothing is said of a "
        "difference."
    )


def _comparable_bests(results: Sequence[Result]) -> list[tuple[Row, Result]]:
    """Return the best block of each model that has one; nothing where the models are not
    comparable, see between_models.
    """
    bare = [result for result in results if result.config.get("prefix") in (None, "none")]
    scored = [
        (result.best, result)
        for result in bare
        if result.best and result.best.get(result.metric) is not None
    ]
    # Models are comparable on the same data, units and metric only.
    settings = {tuple(result.config.get(name) for name in ("dataset", "split")) for result in bare}
    settings |= {(result.metric, result.n) for result in bare}
    models = {result.config.get("model") for result in bare}
    return scored if len(settings) <= 2 and len(models) == len(bare) else []


def leading_baselines(result: Result) -> list[Row]:
    """Return the best row of each kind and run among the baselines, but for the best block
    itself."""
    groups: dict[tuple[object, object], list[Row]] = {}
    for row in result.baselines:
        groups.setdefault((row.get("run"), row.get("kind")), []).append(row)
    best = result.best or {}
    best_fields = {name: best.get(name) for name in ("kind", "layer", "kv_head")} | {
        "run": result.config.get("run")
    }
    leaders = [result.best_of(group) for group in groups.values()]
    return [
        row
        for row in leaders
        if row is not None and any(row.get(name) != best_fields[name] for name in best_fields)
    ]


def sentences_of(result: Result) -> list[str]:
    """Return the sentences about one result, as its experiment writes them; none for an unknown
    command."""
    make = getattr(experiment_part(result.command, "article"), "sentences", None)
    return [] if make is None else list(make(result))

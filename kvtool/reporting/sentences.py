"""What was found, in sentences made from a result's numbers. None claims more than its interval or its test carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from kvtool.reporting.numbers import interval, plural, probability, relation, show
from kvtool.reporting.terminal import block_name
from kvtool.result import Result, Row, best_row, is_summary

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
    blocks = {(row["kind"], row["layer"], row["kv_head"]) for row in result.rows if row["kind"] in ("key", "value")}
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
            return f"{_upper(what)}: {score}; without two intervals nothing is said of a difference."
        case side:
            return f"It is {side} {what}, {score}."


def baseline_name(result: Result, row: Row) -> str:
    """E.g. "the vision tower's output of demo-tower"."""
    what = KINDS.get(row["kind"], block_name(row))
    other = row.get("run") not in (None, result.config.get("run"))
    layer = f" (layer {row['layer']})" if row["kind"] == "vision" else ""
    return f"{what}{layer}" + (f" of {row.get('model') or row['run']}" if other else "")


def last_layer(result: Result) -> str | None:
    """The last layer's best block beside the best of all; None where they are one, or of several kinds."""
    best = result.best
    if best is None or best.get("select") == "split":
        return None
    of_kind = [row for row in result.per_layer if row["kind"] == best["kind"]]
    last = max(of_kind, key=lambda row: int(row["layer"]), default=None)
    if last is None or last["layer"] == best["layer"] or last.get(result.metric) is None:
        return None
    what = f"the last layer's best ({block_name(last)}), {interval(result, last)}"
    match relation(best, last, result.metric):
        case "above":
            return f"The best is above {what}."
        case "not distinguishable":
            return f"It is not distinguishable from {what}."
    return None


def between_models(results: Sequence[Result]) -> str | None:
    """The two best models on one task and data set, without prefix; None for fewer than two, or where they are not
    comparable: other data, other sampling units, or several results of one model."""
    bare = [found for found in results if found.config.get("prefix") in (None, "none")]
    scored = [(found.best, found) for found in bare if found.best and found.best.get(found.metric) is not None]
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


def agnostic_keys(result: Result) -> str:
    """How many vectors do not depend on the input, or that this cannot be told."""
    kind, threshold = result.config.get("kind", "key"), result.config.get("threshold")
    known = [row for row in result.rows if row.get("input_agnostic") is not None]
    if threshold is None or not known:
        why = (result.config.get("distribution") or {}).get("why") or "no threshold"
        return f"No {kind} is called input-agnostic: the variances are not bimodal ({why})."
    count = sum(row["input_agnostic"] for row in known)
    cut = "the valley between the two modes" if result.config.get("threshold_from") == "auto" else "as given"
    where = [
        f"{group['n_input_agnostic']} of {group['n_keys']} {group['group']}"
        for group in result.config.get("groups", [])
        if group.get("n_input_agnostic") is not None
    ]
    spread = f" ({', '.join(where)})" if where else ""
    what = f"{kind} block"
    are = "is" if count == 1 else "are"
    return f"{count} of {plural(len(known), what)} {are} input-agnostic{spread}: variance below {threshold:.4g}, {cut}."


def knockout_effect(result: Result, none: Row, row: Row) -> str:
    """A condition beside no knockout: by the intervals of the score, then by McNemar's test of the answers."""
    how = f"Blocking {plural(row['n_heads'], 'head')} ({condition(row)})"
    scores = f"{interval(result, row)} {result.metric} against {interval(result, none)}"
    side = relation(row, none, result.metric)
    p = row.get("mcnemar_p")
    test = "" if p is None else f"{row['n_lost']} answers lost, {row['n_gained']} gained, {probability(p)}"
    if side in ("above", "below"):
        return f"{how} {'raised' if side == 'above' else 'lowered'} the score: {scores}{'; ' * bool(test)}{test}."
    if p is not None and p < SURE and row["n_lost"] != row["n_gained"]:
        more = "fewer" if row["n_lost"] > row["n_gained"] else "more"
        return f"{how} left {more} answers right ({test}), though the intervals overlap: {scores}."
    return f"{how} made no difference that could be told: {scores}{'; ' * bool(test)}{test}."


def prefix_effect(result: Result, row: Row) -> str:
    """A prefix beside none, by the interval of the difference."""
    low, high, value = (row.get(name) for name in ("difference_low", "difference_high", "difference"))
    how = f"The {row['condition']} prefix ({_choice(row)})"
    if value is None:
        return f"{how} scores {interval(result, row)}; its difference to none is not known."
    if low is None or high is None:
        return f"{how} differs from none by {show(result, value)}; without an interval nothing more is said."
    by = f"{show(result, abs(value))} {result.metric}; difference {interval(result, row, 'difference')}"
    if low > 0 or high < 0:
        return f"{how} {'raised' if low > 0 else 'lowered'} the score by {by}."
    return f"{how} made no difference that could be told: {interval(result, row, 'difference')} {result.metric}."


def paired_cells(result: Result, row: Row) -> str:
    """What values know that the model does not say, and the other way round."""
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
    """Whether values or model answer better, by McNemar's test."""
    value, model, p = row.get("value"), row.get("model"), row.get("mcnemar_p")
    sides = f"values {interval(result, row, 'value')}, model {interval(result, row, 'model')}"
    if value is None or model is None or p is None:
        return f"Which of them answers better was not tested: {sides}."
    if p < SURE and value != model:
        who = "The values answer" if value > model else "The model answers"
        than = "the model" if value > model else "the values"
        return f"{who} more questions right than {than}: {sides} ({probability(p)})."
    return f"Values and model are not distinguishable: {sides} ({probability(p)})."


def correlation(row: Row) -> str:
    """A coefficient over models; a relation only where its interval leaves out 0."""
    name, value, low, high = (row.get(each) for each in ("coefficient", "value", "value_low", "value_high"))
    models = plural(row["n"], "model")
    if value is None:
        return f"{_upper(str(name))} is not defined over {models}."
    if low is None or high is None:
        return f"{_upper(str(name))} over {models}: {value:.2f}; without an interval no relation is claimed."
    number = f"{value:.2f} [{low:.2f}, {high:.2f}]"
    p = "" if row.get("p") is None else f", {probability(row['p'])}"
    if low > 0 or high < 0:
        return f"{_upper(str(name))} over {models} is {'positive' if low > 0 else 'negative'}: {number}{p}."
    return f"{_upper(str(name))} over {models} cannot be told from none: {number}{p}."


def _probe(result: Result) -> Iterator[str]:
    yield best_block(result)
    best = result.best
    if best is None or best.get(result.metric) is None:
        return
    if (line := last_layer(result)) is not None:
        yield line
    for row in leading_baselines(result):
        yield against_baseline(result, best, row)


def leading_baselines(result: Result) -> list[Row]:
    """The best row of each kind and run among the baselines, but for the best block itself."""
    groups: dict[tuple[object, object], list[Row]] = {}
    for row in result.baselines:
        groups.setdefault((row.get("run"), row.get("kind")), []).append(row)
    best = result.best or {}
    here = {name: best.get(name) for name in ("kind", "layer", "kv_head")} | {"run": result.config.get("run")}
    found = [best_row(group, result.metric) for group in groups.values()]
    return [row for row in found if row is not None and any(row.get(name) != here[name] for name in here)]


def _knockout(result: Result) -> Iterator[str]:
    rows = condition_rows(result)
    none = next((row for row in rows if row["condition"] == "none"), None)
    for row in rows:
        if none is not None and row is not none:
            yield knockout_effect(result, none, row)


def condition_rows(result: Result) -> list[Row]:
    """A row for each condition: about all of the benchmark, the mean of several draws."""
    return [row for row in result.rows if is_summary({**row, "condition": None, "choice": None})]


def _prefix(result: Result) -> Iterator[str]:
    for row in condition_rows(result):
        if row["condition"] != "none":
            yield prefix_effect(result, row)


def _paired(result: Result) -> Iterator[str]:
    row = result.best or best_row(result.rows, "value")
    if row is not None:
        yield paired_cells(result, row)
        yield paired_test(result, row)
        if row.get("select") == "max":
            yield chosen_how(result)


def _correlate(result: Result) -> Iterator[str]:
    for row in result.rows:
        if "coefficient" in row:
            yield correlation(row)


def condition(row: Row) -> str:
    """A condition's name in words."""
    names = {"chosen": "the heads given", "dependent": "control: as many that depend on the input"}
    names |= {"random": "control: as many at random"}
    names |= {name: f"those in {name} layers" for name in ("early", "middle", "late")}
    name, draw = str(row["condition"]), row.get("draw")
    return names.get(name, name) + (f", draw {draw}" if draw not in (None, "all") else "")


def _choice(row: Row) -> str:
    return {"best": "best block of each condition", "fixed": "same block as without"}.get(row.get("choice", ""), "")


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


COMMANDS: Mapping[str, Callable[[Result], Iterator[str]]] = {
    "probe": _probe,
    "variance": lambda result: iter([agnostic_keys(result)]),
    "knockout": _knockout,
    "prefix": _prefix,
    "paired": _paired,
    "correlate": _correlate,
}


def of_result(result: Result) -> list[str]:
    """The sentences about one result, by its command; none for a command that is not known."""
    return list(COMMANDS[result.command](result)) if result.command in COMMANDS else []

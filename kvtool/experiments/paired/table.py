"""Model and values side by side on a terminal: the paper's table 5."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.reporting.numbers import interval, p_value, probability, show
from kvtool.reporting.scores import block_tables
from kvtool.result import Result, Row, best_row, block_name, metric_names

LINES = (
    ("model", "model right"),
    ("value_only", "value right, model wrong"),
    ("model_only", "value wrong, model right"),
    ("union", "model or value right"),
    ("both", "both right"),
    ("neither", "both wrong"),
)
"""The first four are the paper's, in its order."""
ANSWERED = {"value": "questions", "value_pck": "points (PCK)"}
"""What a block has right, and the heads of the columns."""
COUNTED = {"model": ("both", "model_only"), "union": ("both", "value_only", "model_only")}
"""The cells that make up the lines that are no cells."""


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool paired` shows below the headline."""
    best = result.best
    config = result.config
    assert best is not None, "kvtool paired always has a best block"
    labels = [
        f"{config['dataset']}@{config['split']}",
        config.get("subset"),
        f"chance {show(result, best['chance'])} %",
        _chance_of_best(result, best),
    ]
    yield Text(" · ".join(str(label) for label in labels if label))
    yield _cells(result, best)
    yield from _guessing(result, best)
    exact = p_value(best["mcnemar_p"])
    mid = p_value(best["mcnemar_mid_p"])
    yield Text(f"McNemar's test of the model against the values: p = {exact} exact, {mid} mid-p")
    yield from _tests(best)
    yield _blocks(result, best)
    yield from block_tables(result)


def _chance_of_best(result: Result, best: Row) -> str:
    """Say what the best of as many guessing blocks has right."""
    if best.get("chance_max") is None or best["n_blocks"] < 2:
        return ""
    return f"best of {best['n_blocks']} guessing {interval(result, best, 'chance_max')} %"


def _tests(best: Row) -> Iterator[Text]:
    """Say how sure the best block's answers are, by permutation of the questions."""
    among = f"the best of {best['n_blocks']} blocks" if best["n_blocks"] > 1 else "this block"
    for name, claim in (
        ("value_p", "more right than guessing"),
        ("value_only_p", "more right where the model is wrong than guessing"),
        ("better_p", "more right than the model (one-sided)"),
    ):
        if best.get(name) is not None:
            yield Text(f"{among}, {claim}: {probability(best[name])}")


def _guessing(result: Result, best: Row) -> Iterator[Text]:
    """Say what guessing blocks have right where the model is wrong."""
    if best.get("guess_value_only") is None:
        return
    single = interval(result, best, "guess_value_only")
    n_blocks = best["n_blocks"]
    best_of = interval(result, best, "guess_best_value_only")
    tail = f", the best of {n_blocks} guessing {best_of}" if n_blocks > 1 else ""
    yield Text(f"value right, model wrong, by chance: one guessing block {single}{tail}")


def _cells(result: Result, best: Row) -> Table:
    choice = (
        "chosen on the other half"
        if best["select"] == "split"
        else "the best of all, which is optimistic"
    )
    total = f" of {result.n}" if best["n"] < result.n else ""
    n = f"n = {best['n']}{total}"
    table = _table(f"{block_name(best)}, {choice}; {n}, 95 % intervals")
    for name in ("", "questions", "share, %"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, label in LINES:
        count = sum(best[f"n_{cell}"] for cell in COUNTED.get(name, (name,)))
        table.add_row(label, str(count), interval(result, best, name))
    return table


def _blocks(result: Result, best: Row) -> Table:
    """Set the values' accuracy beside that of this run's baselines, each kind's best block."""
    names = [name for name in metric_names(best) if name in ANSWERED]
    table = _table("right, %, 95 % interval")
    table.add_column("")
    for name in names:
        table.add_column(ANSWERED[name], justify="right", no_wrap=True)
    # Of a block that was chosen on the other half, and of baselines over all questions.
    table.add_column("n", justify="right", no_wrap=True)
    kinds = dict.fromkeys(row["kind"] for row in result.baselines)
    rows = [best]
    for kind in kinds:
        row = best_row([row for row in result.baselines if row["kind"] == kind], result.metric)
        if row is not None and block_name(row) != block_name(best):
            rows.append(row)
    for row in rows:
        scores = [interval(result, row, name) for name in names]
        table.add_row(block_name(row), *scores, str(row["n"]))
    return table


def _table(title: str) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        min_width=len(title) + 2,
    )

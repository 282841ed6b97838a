"""The demo's figures in README.md: `python -m tests.tools.readme STORE` writes them again.

STORE is the store of `kvtool demo`. What README quotes is kept in docs/figures/demo.json, of which
the marked parts of README are made; the figures beside it are drawn. A test compares both.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

from PIL import Image
from rich.console import Console

from kvtool.reporting.digest import findings
from kvtool.reporting.measures import short_measure
from kvtool.reporting.numbers import interval, p_value, show
from kvtool.reporting.plots import plot
from kvtool.reporting.study import choose
from kvtool.reporting.terminal import render
from kvtool.result import Result, Row
from kvtool.store.keeping import results
from tests.tools.source import ROOT

README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "figures"
DIGEST = FIGURES / "demo.json"
MODEL, TOWER = "demo", "demo-tower"
TASKS = {
    "foreground-segmentation": "episodes",
    "co-segmentation": "images",
    "semantic-segmentation": "images",
    "referring-expression": "sentences",
    "semantic-correspondence": "pairs",
    "temporal-correspondence": "objects",
}
"""The tasks of the table, and what each counts."""
DATASETS = {"semantic-segmentation": "imagenet-s"}
"""The data set of a task's row, where the study has several."""
IN_SENTENCES = ("attend", "surface", "intervene")
"""Commands of whose results README has the first sentence."""
SAE_CONTROLS = ("random", "random-norm", "untrained", "other-image")
SAE_FIELDS = ("layer", "condition", "fvu", "transfer", "transfer_low", "transfer_high")
WIDTH = 78
SIGNIFICANT = 0.05


def quoted(results_of_demo: Iterable[Result]) -> dict[str, Result]:
    """Return the results that README quotes, by name, without what it does not show."""
    quotes: dict[str, Result] = {}
    for result in results_of_demo:
        config = result.config
        if config.get("model") != MODEL or config.get("prefix") not in (None, "none"):
            continue
        task = result.task or ""
        if result.command == "probe" and config["dataset"] == DATASETS.get(task, config["dataset"]):
            quotes[task] = replace(result, rows=[], per_layer=[], items=[], chance=[])
        elif result.command == "paired" and task == "semantic-correspondence":
            best = [row for row in result.rows if _block(row) == _block(result.best or {})]
            quotes["paired"] = replace(result, rows=best, per_layer=[], items=[])
        elif result.command == "knockout" and config.get("each"):
            # README has sentences of it, which need no query heads by themselves.
            quotes["knockout --each"] = replace(result, config={**config, "q_heads": []})
        elif result.command == "knockout":
            rows = [row for row in result.rows if row.get("subset") in (None, "all")]
            quotes["knockout"] = replace(result, rows=rows, items=[], chance=[])
        elif result.command == "sae":
            rows = [{name: row.get(name) for name in SAE_FIELDS} for row in result.rows]
            rows = [row for row in rows if row["condition"] in ("image", "text", *SAE_CONTROLS)]
            quotes["sae"] = replace(result, rows=rows, best=None, per_layer=[], items=[])
        elif result.command in IN_SENTENCES:
            quotes[f"{result.command} {task}".strip()] = replace(result, per_layer=[], items=[])
    absent = {*TASKS, *IN_SENTENCES, "paired", "knockout", "knockout --each", "sae"} - {
        *quotes,
        *(name.split()[0] for name in quotes if name != "knockout --each"),
    }
    if absent:
        raise SystemExit(f"expected the store of a whole demo, found none of {sorted(absent)}")
    return quotes


def _block(row: Row) -> tuple[object, ...]:
    return row.get("kind"), row.get("layer"), row.get("kv_head")


def saved(digest: Path = DIGEST) -> dict[str, Result]:
    """Return the results of the demo that README's figures were made from."""
    records = json.loads(digest.read_text())
    return {name: Result.from_json(record) for name, record in records.items()}


# The parts of README, by their markers.


def parts(demo: Mapping[str, Result]) -> dict[str, str]:
    """Return the parts of README that show figures of the demo, by name."""
    looks = [
        demo[name]
        for name in sorted(demo)
        if demo[name].command in IN_SENTENCES or demo[name].config.get("each")
    ]
    return {
        "tasks": table(demo),
        "knockout": knockout_sentence(demo["knockout"]),
        "paired": paired_table(demo["paired"]),
        "sae": sae_sentence(demo["sae"]),
        "looks": "\n".join(f"- {line}" for line in findings(looks)),
    }


def table(demo: Mapping[str, Result]) -> str:
    """Return the table of tasks: the best value beside chance and baselines, in percent."""
    heads = ["the paper's tables 1 and 2", "N", "best image value", "chance", "projected"]
    heads += ["vision tower", "tower before the joint training"]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    for task, unit in TASKS.items():
        result = demo[task]
        best = result.best or {}
        chance = show(result, best["chance"])
        if not exceeds_chance(result):
            chance = f"**{chance}**"
        cells = [
            f"{task.replace('-', ' ').replace('co seg', 'co-seg')}: "
            f"{short_measure(result.metric)}, `{result.metric}`",
            f"{result.n} {unit}",
        ]
        cells += [interval(result, best), chance]
        for model, kind in ((MODEL, "projected"), (MODEL, "vision"), (TOWER, "vision")):
            rows = [row for row in result.baselines if (row["model"], row["kind"]) == (model, kind)]
            cells.append(interval(result, rows[0]) if rows else "")
        lines.append(_line(cells))
    return "\n".join(lines)


def exceeds_chance(result: Result) -> bool:
    """Tell whether the best block's interval lies above what knows nothing."""
    best = result.best or {}
    return bool(best[f"{result.metric}_low"] > best["chance"])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def knockout_sentence(result: Result) -> str:
    """Return the sentences on MME without the keys of least variance."""
    # The first row of a condition is over all draws of it.
    open_heads, blocked, controls = (
        next(row for row in result.rows if row["condition"] == name)
        for name in ("none", "chosen", "random")
    )
    score, without, control = (
        f"{row[result.metric]:.1f}" for row in (open_heads, blocked, controls)
    )
    p, holm = (p_value(blocked[name]) for name in ("picture_p", "picture_holm_p"))
    n_heads = blocked["n_heads"]
    is_sure = blocked["picture_holm_p"] < SIGNIFICANT
    verdict = "a difference" if is_sure else "no difference that could be told"
    return (
        f"Blocking the {n_heads} keys of least variance takes MME from {score} to {without} "
        f"points, {n_heads} others at random to {control} on average: {verdict} (p = {holm} by "
        f"picture and Holm over the conditions, {p} by itself)."
    )


def paired_table(result: Result) -> str:
    """Return what `kvtool paired` prints, indented as a block of code."""
    stream = StringIO()
    console = Console(file=stream, width=WIDTH, highlight=False, emoji=False, markup=False)
    for part in render(result):
        console.print(part)
        console.print()
    lines = [f"    {line}".rstrip() for line in stream.getvalue().strip().splitlines()]
    return "\n".join(lines)


def sae_sentence(result: Result) -> str:
    """Return the sentences on errors and transfer of the image's tokens beside their controls."""
    image, text = (_of(result, name) for name in ("image", "text"))
    controls = [row for name in SAE_CONTROLS for row in _of(result, name)]
    noise = [row for name in ("random-norm", "untrained") for row in _of(result, name)]
    top = max(image, key=lambda row: float(row["transfer"]))
    return (
        f"Its image tokens are given back badly in every layer, `fvu` {_range(image, 'fvu')} where "
        f"text has {_range(text, 'fvu')}; random directions of the same lengths and an "
        f"untrained adapter have {_range(noise, 'fvu')}. Features of words find their patches at "
        f"{_range(image, 'transfer')} in all layers, {top['transfer']:.3f} "
        f"[{top['transfer_low']:.3f}, {top['transfer_high']:.3f}] in layer {top['layer']}, and the "
        f"controls at {_range(controls, 'transfer')}."
    )


def _of(result: Result, condition: str) -> list[Row]:
    return [row for row in result.rows if row["condition"] == condition]


def _range(rows: Sequence[Row], name: str) -> str:
    numbers = [row[name] for row in rows if row.get(name) is not None]
    return f"{min(numbers):.2f} to {max(numbers):.2f}"


def filled(page: str, demo: Mapping[str, Result]) -> str:
    """Return a page with its marked parts made from the demo's results.

    A part stands between `<!-- demo: NAME -->` and `<!-- end -->`. Raises KeyError for a name that
    is none.
    """
    texts = parts(demo)
    pattern = re.compile(r"(<!-- demo: (\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda match: match[1] + "\n" + texts[match[2]] + "\n" + match[3], page)


def draw(result: Result, path: Path) -> None:
    """Write the figure of a result in few colors, a third of the bytes."""
    plot(result, path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(64).save(path, optimize=True)


def main(store: Path) -> int:
    """Write digest, figures and README of a demo's store, and return the exit code."""
    stored_results = choose(("demo", record) for record in results(store))
    demo = quoted(stored.result for stored in stored_results)
    records = {name: result.to_json() for name, result in demo.items()}
    DIGEST.write_text(json.dumps(records, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    README.write_text(filled(README.read_text(), demo))
    for stored in stored_results:
        result = stored.result
        if result.config.get("model") != MODEL or result.config.get("prefix") not in (None, "none"):
            continue
        names = {("probe", "semantic-correspondence"): "probe", ("variance", None): "variance"}
        names |= {("paired", "semantic-correspondence"): "paired", ("sae", None): "sae"}
        if name := names.get((result.command, result.task)):
            draw(result, FIGURES / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

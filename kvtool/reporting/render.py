"""The page: sections of articles, a summary before them, configurations and commands after them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kvtool.reporting import charts
from kvtool.reporting.chance import chance_interval
from kvtool.reporting.commands import extract_command, result_command
from kvtool.reporting.numbers import in_percent, interval, model_name, plural, unit_mark, words
from kvtool.reporting.overview import layers_figure, leading_probes, score_tracks
from kvtool.reporting.sections import Section, headlines_of, sections_of, title_of
from kvtool.reporting.study import Study
from kvtool.reporting.tables import Data, PageTable
from kvtool.result import Result, Row, block_name
from kvtool.web.modules import REPORT_MODULES, STYLE, joined, sources

NAMES_SHOWN = 4
"""Of more models or data sets the page's first sentence says how many there are."""
SCRIPTS = ("blocks.js", "page.js")
CHART_SIZE = (
    charts.WIDTH,
    charts.HEIGHT,
    charts.LEFT,
    charts.RIGHT,
    charts.TOP,
    charts.BOTTOM,
)


@dataclass(frozen=True)
class Made:
    """How a result was computed: its command, configuration and versions."""

    article: str
    name: str
    extract: str | None
    command: str
    config: str
    versions: str
    n_duplicates: int


class Script:
    """A script of the page.

    The page's security policy names its digest: no other script can run.
    """

    def __init__(self, text: str, is_module: bool = False) -> None:
        self.text = Markup(text)
        self.is_module = is_module
        self.digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render(study: Study) -> str:
    """Return the page. All text of results is escaped; nothing in it refers to another file or
    address."""
    data = Data()
    headlines = headlines_of(study)
    sections = sections_of(study, data, headlines)
    probes = leading_probes([stored.result for stored in study.kept])
    overview = _overview(study, data)
    runs = _runs(study, data)
    scripts = [Script("".join(map(_asset, SCRIPTS)))]
    style = _asset("style.css")
    # The script of maps is large: a page without maps goes without it.
    if study.maps:
        scripts.append(Script(joined(REPORT_MODULES), is_module=True))
        style = sources()[STYLE] + style
    return (
        _environment()
        .get_template("page.html")
        .render(
            study=study,
            headlines=headlines,
            sections=sections,
            scores=score_tracks(probes),
            layers=layers_figure(probes),
            overview=overview,
            runs=runs,
            intro=_intro(study),
            made=[_made(position, study) for position in range(len(study.kept))],
            data=_embedded(study, sections, data),
            size=CHART_SIZE,
            plural=plural,
            style=Markup(style),
            scripts=scripts,
        )
    )


def _embedded(study: Study, sections: Sequence[Section], data: Data) -> dict[str, Any]:
    """Return what the page's script reads."""
    panels = chain.from_iterable(section.panels for section in sections)
    articles = chain.from_iterable(panel.articles for panel in panels)
    return {
        "tables": data.tables,
        "pictures": study.pictures,
        "blocks": {
            article.id: {"rows": article.rows, **article.blocks}
            for article in articles
            if article.blocks is not None
        },
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kvtool.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "separators": (",", ":"),
        "allow_nan": False,
    }
    return environment


def _asset(name: str) -> str:
    """Return a file of ours, which is put into the page as it is."""
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _intro(study: Study) -> str:
    """Say which models and data sets the page is about, in one sentence."""
    models = list(dict.fromkeys(str(run["model"]) for run in study.runs))
    names = list(dict.fromkeys(str(run["dataset"]) for run in study.runs))
    count = plural(len(study.kept), "result")
    if not models:
        return f"{count}; their runs are not in the stores any more."
    return f"{count} of {_named(models, 'model')} over {_named(names, 'data set')}."


def _named(names: Sequence[str], what: str) -> str:
    """Return a few names as they are, of more their number."""
    if len(names) > NAMES_SHOWN:
        return plural(len(names), what)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _overview(study: Study, data: Data) -> PageTable | None:
    """Return the best block of each probe beside chance and the best of its baselines."""
    probes = [
        stored.result
        for stored in study.kept
        if stored.result.command == "probe" and stored.result.best is not None
    ]
    if not probes:
        return None
    percent = all(map(in_percent, probes))  # else each metric has its own unit
    cells = []
    rows = []
    for result in probes:
        best = result.best or {}
        config = result.config
        baselines = {kind: _best_baseline(result, kind) for kind in ("projected", "vision")}
        labels = {
            "task": result.task,
            "model": config.get("model"),
            "dataset": config.get("dataset"),
        }
        rows.append({**labels, "metric": result.metric, **_scores("best", best, result.metric)})
        rows[-1] |= {name: best.get(name) for name in ("kind", "layer", "kv_head", "select", "n")}
        rows[-1] |= _scores("chance", best, "chance")
        for kind, row in baselines.items():
            rows[-1] |= _scores(kind, row or {}, result.metric)
        # The baselines beside the best block.
        text = [interval(result, row) if row else "" for row in baselines.values()]
        metric = result.metric if percent else f"{result.metric}{unit_mark(result)}"
        texts = [model_name(result), words(labels["dataset"]), metric]
        score = [block_name(best), interval(result, best), chance_interval(result, best)]
        cells.append([title_of(result), *texts, *score, *text, str(best["n"])])
    scores = [f"{name}{', %' * percent}" for name in ("score", "chance", "projected", "vision")]
    columns = ["task", "model", "data", "metric", "best block", *scores, "n"]
    return PageTable("Best blocks, 95 % intervals", columns, cells, data.add("overview", rows))


def _best_baseline(result: Result, kind: str) -> Row | None:
    """Return the best block of a kind of the result's run."""
    run_rows = [
        row
        for row in result.baselines
        if row["kind"] == kind and row.get("run") == result.config.get("run")
    ]
    return result.best_of(run_rows)


def _scores(name: str, row: Row, metric: str) -> Row:
    return {f"{name}{end}": row.get(f"{metric}{end}") for end in ("", "_low", "_high")}


def _runs(study: Study, data: Data) -> PageTable | None:
    names = ("run", "model", "dataset", "split", "prefix", "images", "dtype", "revision", "store")
    rows = [{name: run[name] for name in names} for run in study.runs]
    if not rows:
        return None
    return PageTable(
        "Runs",
        list(names),
        [[words(row[name]) for name in names] for row in rows],
        data.add("runs", rows),
    )


def _made(position: int, study: Study) -> Made:
    stored = study.kept[position]
    result = stored.result
    info = study.info(stored)
    return Made(
        article=f"r{position}",
        name=" · ".join(part for part in (title_of(result), stored.run) if part),
        extract=None if info is None else extract_command(info),
        command=result_command(stored, info),
        config=json.dumps(result.config, ensure_ascii=False, indent=1),
        versions=", ".join(f"{name} {version}" for name, version in result.versions.items()),
        n_duplicates=stored.n_duplicates,
    )

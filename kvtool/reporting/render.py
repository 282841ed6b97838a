"""The page: sections of articles, a summary before them, configurations and commands after them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kvtool.reporting import charts, sentences
from kvtool.reporting.articles import Article, build
from kvtool.reporting.commands import extract_command, result_command
from kvtool.reporting.numbers import in_percent, interval, model_name, unit_mark, words
from kvtool.reporting.study import Study
from kvtool.reporting.tables import Data, PageTable
from kvtool.result import Result, Row, block_name

TITLES = {
    "probe": "Probe",
    "variance": "Input-agnostic keys",
    "knockout": "Knockout",
    "prefix": "Prefixes",
    "paired": "What the values know and the model says",
    "correlate": "Correlation over models",
    "average": "Averages over tasks",
    "compare": "Runs compared",
    "sae": "Image tokens in the features of language",
    "lens": "Words read at image tokens",
    "attend": "Where texts look",
    "surface": "Model and values together",
    "intervene": "Attention changed",
}
NAMED_BY_TASK = ("probe",)
"""Commands whose sections have the name of their task alone."""


CHART_SIZE = (
    charts.WIDTH,
    charts.HEIGHT,
    charts.LEFT,
    charts.RIGHT,
    charts.TOP,
    charts.BOTTOM,
)


@dataclass(frozen=True)
class Section:
    """All results of one command and task."""

    id: str
    title: str
    findings: list[str]
    articles: list[Article]


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


def render(study: Study) -> str:
    """Return the page. All text of results is escaped; nothing in it refers to another file or
    address."""
    data = Data()
    sections = list(_sections(study, data))
    overview = _overview(study, data)
    runs = _runs(study, data)
    articles = chain.from_iterable(section.articles for section in sections)
    embedded = {
        "tables": data.tables,
        "pictures": study.pictures,
        "blocks": {
            article.id: {"rows": article.rows, **article.blocks}
            for article in articles
            if article.blocks is not None
        },
    }
    script = _asset("page.js")
    # The page's security policy names the script's digest: no other script can run.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html")
        .render(
            study=study,
            sections=sections,
            overview=overview,
            runs=runs,
            intro=_intro(study),
            made=[_made(position, study) for position in range(len(study.kept))],
            data=embedded,
            size=CHART_SIZE,
            style=Markup(_asset("style.css")),
            script=Markup(script),
            script_digest=digest,
        )
    )


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


def _sections(study: Study, data: Data) -> Iterator[Section]:
    groups: dict[tuple[str, str | None], list[int]] = {}
    for position, stored in enumerate(study.kept):
        groups.setdefault((stored.result.command, stored.result.task), []).append(position)
    compared = study.of_command("compare")
    for number, ((command, task), positions) in enumerate(groups.items()):
        results = [study.kept[position].result for position in positions]
        between = sentences.between_models(results, compared) if command == "probe" else None
        articles = [build(position, study, data) for position in positions]
        yield Section(f"s{number}", _title(command, task), [between] if between else [], articles)


def _title(command: str, task: str | None) -> str:
    subject = (task or "").replace("-", " ").replace("co seg", "co-seg").capitalize()
    if command in NAMED_BY_TASK and task:
        return subject
    title = TITLES.get(command, command.capitalize())
    return f"{title}: {subject}" if task else title


def _intro(study: Study) -> str:
    """Say which models and data sets the page is about, in one sentence."""
    models = dict.fromkeys(str(run["model"]) for run in study.runs)
    names = dict.fromkeys(f"{run['dataset']} ({run['split']})" for run in study.runs)
    results = len(study.kept)
    count = f"{results} result{'s' * (results != 1)}"
    if not models:
        return f"{count}; their runs are not in the stores any more."
    return f"{count} of {_listed(list(models))} over {_listed(list(names))}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _overview(study: Study, data: Data) -> PageTable | None:
    """Return the best block of each probe beside the best of its baselines."""
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
        for kind, row in baselines.items():
            rows[-1] |= _scores(kind, row or {}, result.metric)
        # The baselines beside the best block.
        text = [interval(result, row) if row else "" for row in baselines.values()]
        metric = result.metric if percent else f"{result.metric}{unit_mark(result)}"
        texts = [model_name(result), words(labels["dataset"]), metric]
        score = [block_name(best), interval(result, best)]
        cells.append([_title("probe", result.task), *texts, *score, *text, str(best["n"])])
    scores = [f"{name}{', %' * percent}" for name in ("score", "projected", "vision")]
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
        name=" · ".join(part for part in (_title(result.command, result.task), stored.run) if part),
        extract=None if info is None else extract_command(info),
        command=result_command(stored, info),
        config=json.dumps(result.config, ensure_ascii=False, indent=1),
        versions=", ".join(f"{name} {version}" for name, version in result.versions.items()),
        n_duplicates=stored.n_duplicates,
    )

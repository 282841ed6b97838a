"""The page's sections: a question each, with a panel for each of its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvtool.registry import experiment_part
from kvtool.reporting import sentences
from kvtool.reporting.articles import Article, build
from kvtool.reporting.chapters import CHAPTERS, REMAINDER, Chapter
from kvtool.reporting.charts import LineChart
from kvtool.reporting.study import Study
from kvtool.reporting.tables import Data
from kvtool.result import Result

OVERLAY_CAPTION = "each layer's best block; the band is a 95 % interval"
BENCHMARKS = ("mme", "pope")
"""Tasks whose names are abbreviations."""


@dataclass(frozen=True)
class Headline:
    """What a command's results say, in one sentence, and the id of what it is about."""

    target: str
    subject: str
    text: str


@dataclass(frozen=True)
class ResultPanel:
    """One result, or one task's results of several models, whose curves share their axes.

    Args:
        id: the id of its element.
        title: its title.
        entry: its title in the outline, which tells it from others of its section.
        subject: which model and data it is about.
        leads: the sentences that stand open.
        overlay: the curves of several models; None for one result, which has its own face.
        overlay_caption: what these curves are of.
        articles: a result each; their details are folded.
    """

    id: str
    title: str
    entry: str
    subject: str
    leads: list[str]
    overlay: LineChart | None
    overlay_caption: str
    articles: list[Article]


@dataclass(frozen=True)
class Section:
    """A question and its panels."""

    chapter: Chapter
    panels: list[ResultPanel]


def sections_of(study: Study, data: Data, headlines: Sequence[Headline]) -> list[Section]:
    """Return the sections that have results, in a reader's order. What a headline says is not said
    again, nor is any sentence twice."""
    groups: dict[str, list[tuple[int, ...]]] = {}
    for positions in _groups(study):
        chapter = chapter_of(study.kept[positions[0]].result.command)
        groups.setdefault(chapter.id, []).append(positions)
    # What a headline said is not said again below it.
    told = {headline.text for headline in headlines}
    sections = []
    for chapter in CHAPTERS:
        panels = [_panel(positions, study, data, told) for positions in groups.get(chapter.id, ())]
        if panels:
            sections.append(Section(chapter, _told_apart(panels)))
    return sections


def _told_apart(panels: Sequence[ResultPanel]) -> list[ResultPanel]:
    """Return panels whose entries in the outline differ: those of one title have their subjects."""
    counts = Counter(panel.title for panel in panels)
    return [
        replace(panel, entry=f"{panel.title}: {panel.subject.split(' · ')[0]}")
        if counts[panel.title] > 1
        else panel
        for panel in panels
    ]


def chapter_of(command: str) -> Chapter:
    """Return the question that a command's results answer."""
    chapter: Chapter = getattr(experiment_part(command, "article"), "CHAPTER", REMAINDER)
    return chapter


def title_of(result: Result) -> str:
    """Return the title of a result: its experiment's, and its task."""
    part = experiment_part(result.command, "article")
    title: str = getattr(part, "TITLE", result.command.capitalize())
    subject = (result.task or "").replace("-", " ").replace("co seg", "co-seg").capitalize()
    if result.task in BENCHMARKS:
        subject = subject.upper()
    return ": ".join(filter(None, [title, subject]))


def headlines_of(study: Study) -> list[Headline]:
    """Return a sentence for each command: its experiment's over all its results, or else the
    first that its first result says."""
    groups: dict[str, list[int]] = {}
    for position, stored in enumerate(study.kept):
        groups.setdefault(stored.result.command, []).append(position)
    headlines = []
    for command, positions in groups.items():
        results = [study.kept[position].result for position in positions]
        make = getattr(experiment_part(command, "article"), "headline", None)
        text = make(results) if make is not None else None
        if text is None:
            text = next(iter(sentences.sentences_of(results[0])), None)
        if text is not None:
            target = f"p{positions[0]}" if len(results) == 1 else chapter_of(command).id
            headlines.append(Headline(target, chapter_of(command).brief, text))
    order = [chapter.brief for chapter in CHAPTERS]
    return sorted(headlines, key=lambda headline: order.index(headline.subject))


def _groups(study: Study) -> Iterator[tuple[int, ...]]:
    """Yield the positions of results that share a panel: those of one task and data, where their
    experiment can lay several models over each other; else each alone."""
    groups: dict[Any, list[int]] = {}
    for position, stored in enumerate(study.kept):
        result = stored.result
        key: Any = position
        part = experiment_part(result.command, "article")
        if hasattr(part, "overlay"):
            data = [str(result.config.get(name)) for name in ("dataset", "split")]
            measure = getattr(part, "overlay_key", _measure)(result)
            # Only results of one measure on one data set can lie over each other.
            key = (result.command, result.task, *measure, *data)
        groups.setdefault(key, []).append(position)
    return map(tuple, groups.values())


def _measure(result: Result) -> tuple[str, str]:
    return result.metric, result.unit


def _panel(positions: Sequence[int], study: Study, data: Data, told: set[str]) -> ResultPanel:
    """Return the panel of one result, or of several models' results."""
    results = [study.kept[position].result for position in positions]
    articles = [build(position, study, data) for position in positions]
    first = articles[0]
    leads = _untold(first.findings[: first.n_leads], told)
    overlay = None
    part = experiment_part(results[0].command, "article")
    # Several models share a figure and a sentence; each keeps its article.
    if len(results) > 1:
        overlay = part.overlay(results)
        between = sentences.between_models(results, study.of_command("compare"))
        leads += _untold([between] if between else [], told)
    articles = [replace(article, findings=_untold(article.findings, told)) for article in articles]
    return ResultPanel(
        id=f"p{positions[0]}",
        title=title_of(results[0]),
        entry=title_of(results[0]),
        subject=_subject(results, first.heading),
        leads=leads,
        overlay=overlay,
        overlay_caption=getattr(part, "OVERLAY_CAPTION", OVERLAY_CAPTION),
        articles=articles,
    )


def _untold(lines: Sequence[str], told: set[str]) -> list[str]:
    """Return the sentences that were not told before, which are so now."""
    fresh = [line for line in dict.fromkeys(lines) if not any(line in text for text in told)]
    told.update(fresh)
    return fresh


def _subject(results: Sequence[Result], heading: str) -> str:
    """Return which data a panel is about, and of one result which model or runs. The measure stands
    above the figure, whose it is."""
    config = results[0].config
    is_named = len(results) == 1 and heading != results[0].command
    models = [heading] if is_named else []
    data = " ".join(str(config[name]) for name in ("dataset", "split") if config.get(name))
    count = f"n = {results[0].n}" if len({result.n for result in results}) == 1 else ""
    n_skipped = max(result.n_skipped for result in results)
    skipped = f"{n_skipped} left out" if n_skipped else ""
    return " · ".join(filter(None, [data, *models, count, skipped]))

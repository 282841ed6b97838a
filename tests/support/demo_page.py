"""The page of a whole demo, from the results that tests keep of it: a file a kind of result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from kvtool.reporting import Study
from kvtool.result import Result
from tests.support import studies
from tests.support.screens import FROZEN

TIMES = {"probe": 8, "variance": 2, "prefix": 4, "paired": 4, "surface": 2}
"""Kinds of results of which a demo's page has several panels."""


def demo_results() -> dict[str, Result]:
    """Return a result of each kind, by the name of its file."""
    return {
        path.stem: Result.from_json(json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(FROZEN.glob("*.json"))
    }


def demo_study() -> Study:
    """Return the study of as many results as a demo's page has panels."""
    return studies.study(*_repeated())


def _repeated() -> Iterator[Result]:
    """Yield every result as often as the demo has one of its kind, each over other data."""
    for name, result in demo_results().items():
        for number in range(TIMES.get(name, 1)):
            split = f"{result.config.get('split')}-{number}" if number else "val"
            yield replace(result, config=result.config | {"split": split})

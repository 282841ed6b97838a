"""The part of the demo study that is about single attention heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kvtool.result import Result

if TYPE_CHECKING:
    from kvtool.demo.study import DemoStudy

BLOCKING: dict[str, Any] = {"limit": 40}
"""The options by which `knockout --each` blocks every head alone: MME's first pictures, with two
questions each."""
CHANGING: dict[str, Any] = {
    **{"heads": "sinks:2", "method": ("redistribute:1", "block")},
    **{"controls": ("random",), "limit": 24},
}
"""The options by which `intervene` asks MME's first pictures again: in the keys whose sinks draw
most."""


def single_heads(study: DemoStudy) -> Iterator[Result]:
    """Block every head alone, and set what that changes beside attention and probes."""
    import kvtool

    run = kvtool.open(study.store).run(study.extract("mme"))
    study.step(f"MME's first {BLOCKING['limit']} pictures, every head blocked alone")
    questions = f"mme:{study.scenes / 'mme'}"
    yield kvtool.knockout(run, questions, each_head=True, **BLOCKING)


def interventions(study: DemoStudy) -> Iterator[Result]:
    """Give what sinks draw, in the keys where they draw most, to other tokens; or block the image
    there.
    """
    import kvtool

    run = kvtool.open(study.store).run(study.extract("mme"))
    study.step(f"MME's first {CHANGING['limit']} pictures, attention of sinks redistributed")
    yield kvtool.intervene(run, f"mme:{study.scenes / 'mme'}", **CHANGING)

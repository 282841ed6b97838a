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


def single_heads(study: DemoStudy) -> Iterator[Result]:
    """Block every head alone, and set what that changes beside attention and probes."""
    import kvtool

    run = kvtool.open(study.store).run(study.extract("mme"))
    study.step(f"MME's first {BLOCKING['limit']} pictures, every head blocked alone")
    questions = f"mme:{study.scenes / 'mme'}"
    yield kvtool.knockout(run, questions, each_head=True, **BLOCKING)

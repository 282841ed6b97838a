"""What a study does with a model: data sets, tasks and SAEs; that of SmolLM2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Analysis:
    """One data set of the demo, with its default split unless one is named, and a task on it with
    its options."""

    dataset: str
    task: str
    split: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """Which model is studied, and how.

    Attributes:
        model: Its name.
        store: The name of the store in the study's folder.
        page: The name of the page with all results.
        tower: The tower that is probed beside it, None for its own alone.
        probes: What is probed.
        paired: What the model is asked beside its values.
        draws: How often the heads of a control are drawn.
        saes: The SAEs that read the image's tokens, by model; "none" for directions of words.
    """

    model: str
    store: str
    page: str
    tower: str | None
    probes: Sequence[Analysis]
    paired: Sequence[Analysis]
    draws: int
    saes: Mapping[str, str]


_ADAPTER = "smollm2-adapter"
SMOLLM2 = Program(
    model=_ADAPTER,
    store="smollm2.kv",
    page="smollm2.html",
    tower=None,
    probes=(
        Analysis("pascal5i", "foreground-segmentation", options={"episodes": 100}),
        Analysis("refcoco", "referring-expression"),
        Analysis("spair71k", "semantic-correspondence"),
    ),
    paired=(Analysis("spair71k", "semantic-correspondence", options={"n": 60}),),
    draws=1,
    saes={_ADAPTER: "none"},
)
"""SmolLM2 behind its shipped adapter. Its 90 blocks are eleven times the demo's work: fewer tasks,
and fewer episodes and questions of each."""

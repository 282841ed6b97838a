"""The demo study: the embedded world, the shipped model, and every analysis there is, from nothing to tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kvtool.reports.results import Result
from kvtool.scenes.layouts.files import Size

Step = Callable[[str], None]


@dataclass(frozen=True)
class Analysis:
    """One data set of the demo, read with its default split, and the task it serves."""

    dataset: str
    task: str


ANALYSES = (
    Analysis("pascal5i", "foreground-segmentation"),
    Analysis("msrc", "co-segmentation"),
    Analysis("imagenet-s", "semantic-segmentation"),
    Analysis("refcoco", "referring-expression"),
    Analysis("spair71k", "semantic-correspondence"),
    Analysis("davis", "temporal-correspondence"),
)
MODELS = ("demo", "demo-tower")
"""The shipped model, and its tower as it was before the joint training (the paper's SigLIP without finetuning)."""


def run_demo(directory: Path, *, size: Size = "small", seed: int = 0, step: Step = lambda _: None) -> Iterator[Result]:
    """Write scenes, extract them with MODELS, probe them; yields each analysis' result.

    Everything is kept under `directory` (scenes/, study.kv), so that a second call only reads: an interrupted study
    goes on where it stopped.
    """
    import kvtool
    from kvtool.scenes.layouts import write_scenes

    scenes, store = directory / "scenes", directory / "study.kv"
    step(f"writing scenes to {scenes}")
    write_scenes(scenes, seed=seed, size=size)
    for analysis in ANALYSES:
        spec = f"{analysis.dataset}:{scenes / analysis.dataset}"
        runs = []
        for model in MODELS:
            step(f"extracting {spec} with {model}")
            runs.append(kvtool.extract(store, model=model, dataset=spec).run)
        step(f"probing {analysis.task}")
        yield kvtool.probe(kvtool.open(store).run(runs[0]), analysis.task)

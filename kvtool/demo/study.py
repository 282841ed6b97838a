"""The demo study: the embedded world, the shipped model, and every analysis there is, from nothing to tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool.demo.layouts.files import Size
from kvtool.result import Result
from kvtool.types import Kind

Step = Callable[[str], None]


@dataclass(frozen=True)
class Analysis:
    """One data set of the demo, with its default split if none is named, and the task it serves."""

    dataset: str
    task: str
    split: str | None = None


PROBES = (
    Analysis("pascal5i", "foreground-segmentation"),
    Analysis("msrc", "co-segmentation"),
    Analysis("imagenet-s", "semantic-segmentation"),
    Analysis("refcoco", "referring-expression"),
    Analysis("spair71k", "semantic-correspondence"),
    Analysis("davis", "temporal-correspondence"),
)
PREFIXES = (
    Analysis("refcoco", "referring-expression"),
    Analysis("spair71k", "semantic-correspondence"),
    Analysis("bdd10k", "semantic-segmentation", "val-day+street"),
    Analysis("bdd10k", "semantic-segmentation", "val-night+highway"),
)
PAIRED = (
    Analysis("spair71k", "semantic-correspondence"),
    Analysis("blink", "art-style"),
    Analysis("blink", "visual-similarity"),
    Analysis("blink", "relative-depth"),
)
SEGMENTED = ("pascal5i", "msrc", "imagenet-s", "refcoco")
ASKED = ("cvbench", "blink")
MODEL, TOWER = "demo", "demo-tower"
"""The shipped model, and its tower as it was before the joint training (the paper's SigLIP without finetuning)."""
STAGES = ("demo@1", "demo@2", "demo@3")
"""The model earlier in its joint training: the other points of the paper's figure 3."""
QUICK: dict[str, Any] = {"episodes": 100, "restarts": 1}
"""Options of the probes that `correlate` repeats for every stage."""
QUIETEST = 4
"""Where the keys' variances do not part into two modes, as many of the least stand in for the input-agnostic ones."""


@dataclass(frozen=True)
class DemoStudy:
    """Where scenes and store lie, and whom to tell of each step. Nothing that is there is made again."""

    directory: Path
    step: Step

    @property
    def scenes(self) -> Path:
        return self.directory / "scenes"

    @property
    def store(self) -> Path:
        return self.directory / "study.kv"

    @property
    def page(self) -> Path:
        return self.directory / "report.html"

    def extract(
        self, dataset: str, model: str = MODEL, split: str | None = None, decoder_only: bool = False
    ) -> str:
        """The name of the run."""
        import kvtool

        spec = f"{dataset}:{self.scenes / dataset}" + (f"@{split}" if split else "")
        self.step(f"extracting {spec} with {model}")
        kinds: Sequence[Kind] | None = ("key", "value") if decoder_only else None
        return kvtool.extract(self.store, model=model, dataset=spec, kinds=kinds).run

    def probes(self) -> Iterator[Result]:
        """The paper's tables 1 and 2."""
        import kvtool

        for analysis in PROBES:
            run = self.extract(analysis.dataset, split=analysis.split)
            self.extract(analysis.dataset, TOWER, analysis.split)
            self.step(f"probing {analysis.task}")
            yield kvtool.probe(kvtool.open(self.store).run(run), analysis.task)

    def knockout(self) -> Iterator[Result]:
        """The paper's figure 14 and table 10: keys that ignore the input, and questions asked without them."""
        import kvtool

        run = kvtool.open(self.store).run(self.extract("mme"))
        self.step("variance of the keys")
        found = kvtool.variance(run)
        yield found
        heads = [row for row in found.rows if row["input_agnostic"]]
        if not heads:
            heads = sorted(found.rows, key=lambda row: float(row["variance"]))[:QUIETEST]
        self.step(f"MME asked again, {len(heads)} heads of least variance blocked")
        chosen = [(row["layer"], row["kv_head"]) for row in heads]
        asked = f"mme:{self.scenes / 'mme'}"
        yield kvtool.knockout(run, asked, chosen, controls=("random",), draws=3)

    def prefixes(self) -> Iterator[Result]:
        """The paper's table 4, of the layers whose values can see a text before the image: all but the first."""
        import kvtool

        for analysis in PREFIXES:
            run = kvtool.open(self.store).run(self.extract(analysis.dataset, split=analysis.split))
            self.step(
                f"prefixes of {analysis.task}" + (f", {analysis.split}" if analysis.split else "")
            )
            yield kvtool.prefix(run, analysis.task, layers=run.config.layers[1:])

    def paired(self) -> Iterator[Result]:
        """The paper's table 5."""
        import kvtool

        for analysis in PAIRED:
            run = self.extract(analysis.dataset, split=analysis.split)
            self.step(f"what the model says and its values know: {analysis.task}")
            yield kvtool.paired(kvtool.open(self.store).run(run), analysis.task)

    def correlation(self) -> Iterator[Result]:
        """The paper's figure 3, over stages of the training."""
        import kvtool

        for model in STAGES:
            for dataset in (*SEGMENTED, *ASKED):
                self.extract(dataset, model, decoder_only=True)
        self.extract("cvbench")
        self.step(f"correlating {len(STAGES) + 1} stages of the model")
        yield kvtool.correlate(self.store, models=(*STAGES, MODEL), **QUICK)

    def report(self) -> Path:
        import kvtool

        self.step(f"writing {self.page}")
        kvtool.report(self.store, self.page)
        return self.page


def run_demo(
    directory: Path, *, size: Size = "small", seed: int = 0, step: Step = lambda _: None
) -> Iterator[Result]:
    """Write scenes, extract them, and yield each analysis' result; last of all the page with all of them is written.

    Everything is kept under `directory` (scenes/, study.kv, report.html), so that a second call only reads: an
    interrupted study goes on where it stopped.
    """
    from kvtool.demo.layouts import write_scenes

    study = DemoStudy(directory, step)
    step(f"writing scenes to {study.scenes}")
    write_scenes(study.scenes, seed=seed, size=size, only=sorted(_datasets()))
    for part in (study.probes, study.knockout, study.prefixes, study.paired, study.correlation):
        yield from part()
    study.report()


def _datasets() -> set[str]:
    analyses: Sequence[Analysis] = (*PROBES, *PREFIXES, *PAIRED)
    return {*(analysis.dataset for analysis in analyses), *SEGMENTED, *ASKED, "mme"}

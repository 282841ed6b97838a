"""The demo study: the embedded world, a shipped model, and all analyses in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from kvtool.demo.heads import interventions, single_heads
from kvtool.demo.layouts.files import Size
from kvtool.demo.programs import SMOLLM2, Analysis, Program
from kvtool.demo.weights import demo_saes_path
from kvtool.result import Result
from kvtool.types import Kind

Step = Callable[[str], None]


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
SURFACED = (
    Analysis("spair71k", "semantic-correspondence", options={"n": 100}),
    Analysis("blink", "art-style"),
)
COMPARED = Analysis("spair71k", "semantic-correspondence")
SEGMENTED = ("pascal5i", "msrc", "imagenet-s", "refcoco")
QUESTION_SETS = ("cvbench", "blink")
MODEL = "demo"
TOWER = "demo-tower"
"""The tower is as it was before the joint training (the paper's SigLIP without finetuning)."""
STAGES = ("demo@1", "demo@2", "demo@3")
"""The model earlier in its joint training: the other points of the paper's figure 3."""
QUICK: dict[str, Any] = {"episodes": 100, "seeds": 2, "restarts": 2}
"""The options of the probes that `correlate` repeats for every stage."""
QUIETEST = 4
"""So many keys of least variance stand in for input-agnostic ones, where no two modes are seen."""
CAPTIONED = "coco"
"""The data set whose captions and masks say whether image tokens are aligned with words."""
READING: dict[str, Any] = {"tokens": "all", "limit": 40}
"""The options by which `sae` and `lens` read the image's tokens."""
LOOKING: dict[str, Any] = {"limit": 16}
"""The options by which `attend` asks where texts look."""
DEMO_ADAPTER = "demo-adapter"
Subject = Literal["demo", "smollm2"]


def program_of(subject: Subject) -> Program:
    """Return what is done with the shipped model, or with SmolLM2 behind its shipped adapter."""
    if subject == "smollm2":
        return SMOLLM2
    saes = {MODEL: "demo", DEMO_ADAPTER: "none"}
    return Program(MODEL, "study.kv", "report.html", TOWER, PROBES, PAIRED, 3, saes)


@dataclass(frozen=True)
class DemoStudy:
    """The study in a directory; `step` is told what happens next.

    Nothing that exists is computed again.
    """

    directory: Path
    step: Step
    program: Program

    @property
    def scenes(self) -> Path:
        """The folder of the data sets."""
        return self.directory / "scenes"

    @property
    def store(self) -> Path:
        """The store of the runs."""
        return self.directory / self.program.store

    @property
    def page(self) -> Path:
        """The page with all results."""
        return self.directory / self.program.page

    def extract(
        self,
        dataset: str,
        model: str | None = None,
        split: str | None = None,
        decoder_only: bool = False,
    ) -> str:
        """Extract a data set of the scenes, unless the store has it, and return the run's name."""
        import kvtool

        model = model or self.program.model
        spec = f"{dataset}:{self.scenes / dataset}" + (f"@{split}" if split else "")
        self.step(f"extracting {spec} with {model}")
        kinds: Sequence[Kind] | None = ("key", "value") if decoder_only else None
        return kvtool.extract(self.store, model=model, dataset=spec, kinds=kinds).run

    def probes(self) -> Iterator[Result]:
        """Probe each task, as the paper's tables 1 and 2 do."""
        import kvtool

        for analysis in self.program.probes:
            run = self.extract(analysis.dataset, split=analysis.split)
            if self.program.tower is not None:
                self.extract(analysis.dataset, self.program.tower, analysis.split)
            self.step(f"probing {analysis.task}")
            yield kvtool.probe(kvtool.open(self.store).run(run), analysis.task, **analysis.options)

    def knockout(self) -> Iterator[Result]:
        """Find the keys that ignore the input, and ask questions without them.

        They are the paper's figure 14 and table 10.
        """
        import kvtool

        run = kvtool.open(self.store).run(self.extract("mme"))
        self.step("variance of the keys")
        variances = kvtool.variance(run)
        yield variances
        # A small model may have no two modes of variance: then the quietest keys serve.
        rows = [row for row in variances.rows if row["input_agnostic"]]
        if not rows:
            rows = sorted(variances.rows, key=lambda row: float(row["variance"]))[:QUIETEST]
        self.step(f"MME asked again, {len(rows)} heads of least variance blocked")
        heads = [(row["layer"], row["kv_head"]) for row in rows]
        questions = f"mme:{self.scenes / 'mme'}"
        draws = self.program.draws
        yield kvtool.knockout(run, questions, heads, controls=("random",), draws=draws)

    def prefixes(self) -> Iterator[Result]:
        """Put texts before the images, as the paper's table 4 does.

        The first layer is left out: its values cannot see a text before the image.
        """
        import kvtool

        for analysis in PREFIXES:
            run = kvtool.open(self.store).run(self.extract(analysis.dataset, split=analysis.split))
            split = f", {analysis.split}" if analysis.split else ""
            self.step(f"prefixes of {analysis.task}{split}")
            yield kvtool.prefix(run, analysis.task, layers=run.config.layers[1:])

    def paired(self) -> Iterator[Result]:
        """Compare the model's answers with what its values know, as the paper's table 5 does."""
        import kvtool

        for analysis in self.program.paired:
            run = self.extract(analysis.dataset, split=analysis.split)
            self.step(f"what the model says and its values know: {analysis.task}")
            yield kvtool.paired(kvtool.open(self.store).run(run), analysis.task, **analysis.options)

    def surfaced(self) -> Iterator[Result]:
        """Add what the values know to what the model says, of the tasks whose values say how much
        speaks for each option."""
        import kvtool

        for analysis in SURFACED:
            run = self.extract(analysis.dataset, split=analysis.split)
            self.step(f"model and values together: {analysis.task}")
            target = kvtool.open(self.store).run(run)
            yield kvtool.surface(target, analysis.task, **analysis.options)

    def averages(self) -> Iterator[Result]:
        """Average each block over the tasks, as the paper's figures 2 and 11 to 13 do."""
        import kvtool

        self.step("averaging over tasks")
        yield kvtool.average(self.store, models=[MODEL])

    def comparisons(self) -> Iterator[Result]:
        """Compare the model with the tower alone, as it was before the joint training."""
        import kvtool

        runs = [self.extract(COMPARED.dataset, model) for model in (TOWER, MODEL)]
        self.step(f"comparing the tower and the model: {COMPARED.task}")
        yield kvtool.compare(self.store, runs, COMPARED.task)

    def correlation(self) -> Iterator[Result]:
        """Correlate probes and answers over stages of training, as the paper's figure 3 does."""
        import kvtool

        for model in STAGES:
            for dataset in (*SEGMENTED, *QUESTION_SETS):
                self.extract(dataset, model, decoder_only=True)
        self.extract("cvbench")
        self.step(f"correlating {len(STAGES) + 1} stages of the model")
        yield kvtool.correlate(self.store, models=(*STAGES, MODEL), **QUICK)

    def words(self) -> Iterator[Result]:
        """Read image tokens in the features of text and through the head, as the second paper
        does."""
        import kvtool

        for model, saes in self.program.saes.items():
            run = kvtool.open(self.store).run(self.extract(CAPTIONED, model))
            self.step(f"image tokens of {model} in the features of text, SAEs: {saes}")
            texts = demo_saes_path() / "descriptions.json" if saes == "demo" else None
            yield kvtool.sae(run, saes, descriptions=texts, **READING)
        run = kvtool.open(self.store).run(self.extract(CAPTIONED))
        self.step("image tokens through the head")
        yield kvtool.lens(run, **READING)

    def attention(self) -> Iterator[Result]:
        """Ask where sentences about objects look, and which image tokens draw attention whatever
        the text."""
        import kvtool

        run = kvtool.open(self.store).run(self.extract("refcoco"))
        self.step("where sentences look on pictures")
        yield kvtool.attend(run, expressions=True, **LOOKING)
        self.step("image tokens that draw attention")
        yield kvtool.attend(run, sinks=True, **LOOKING)

    def report(self) -> Path:
        """Write the page with all results, and return its path."""
        import kvtool

        self.step(f"writing {self.page}")
        title = "The demo of kvtool: a small model in a world of drawn shapes"
        return kvtool.report(self.store, self.page, title=title).path


def run_demo(
    directory: Path,
    *,
    size: Size = "small",
    seed: int = 0,
    model: Subject = "demo",
    step: Step = lambda _: None,
) -> Iterator[Result]:
    """Write scenes, extract them, yield the result of each analysis, and write the page of all.

    Everything stays under the directory, so that a second call only reads, and an interrupted study
    goes on where it stopped. Raises ModelError where the packages of the model are not installed.

    Args:
        directory: The folder that gets scenes/, a store and a page: study.kv and report.html of the
            demo, smollm2.kv and smollm2.html of SmolLM2.
        size: The size of the data sets: small, medium or large.
        seed: The random seed of the scenes.
        model: The shipped model, demo, or SmolLM2, a language model of 30 layers that reads images
            through a shipped adapter.
        step: Is called with a line of text before each step.
    """
    from kvtool.demo.layouts import write_scenes

    study = DemoStudy(directory, step, program_of(model))
    if model == "smollm2":
        from kvtool.models.smollm2 import smollm2_path

        step("SmolLM2 from its package")
        smollm2_path()
    step(f"writing scenes to {study.scenes}")
    write_scenes(study.scenes, seed=seed, size=size, only=sorted(_datasets()))
    for part in _parts(study):
        yield from part()
    study.report()


def _parts(study: DemoStudy) -> Sequence[Callable[[], Iterator[Result]]]:
    """Return the parts of a study in their order."""
    if study.program.model != MODEL:
        return study.probes, study.knockout, study.paired, study.words
    single_runs = (study.probes, study.knockout, study.prefixes, study.paired)
    return (
        *single_runs,
        study.averages,
        study.comparisons,
        study.correlation,
        study.words,
        study.attention,
        study.surfaced,
        partial(single_heads, study),
        partial(interventions, study),
    )


def _datasets() -> set[str]:
    analyses: Sequence[Analysis] = (*PROBES, *PREFIXES, *PAIRED)
    datasets = {analysis.dataset for analysis in analyses}
    return {*datasets, *SEGMENTED, *QUESTION_SETS, "mme", CAPTIONED}

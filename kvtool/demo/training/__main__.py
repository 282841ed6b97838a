"""`python -m kvtool.demo.training OUT` trains, exports to OUT/demo and evaluates the demo model.

A second call goes on where the first one stopped. All of it takes about two hours on one core with
bfloat16 instructions.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from kvtool.demo.training.card import facts_of, write_card
from kvtool.demo.training.config import TrainingSettings, tiny
from kvtool.demo.training.evaluate import evaluate, save_figures
from kvtool.demo.training.export import export_model, export_stage, export_tower
from kvtool.demo.training.run import KEPT_FRACTIONS, STAGES, TrainingRun
from kvtool.demo.training.text import token_ids


def export(run: TrainingRun, folder: Path) -> None:
    """Export everything that is shipped but the card, from the newest checkpoints."""
    run.load("joint")
    export_model(run.model, folder / "model")
    export_tower(torch.load(run.checkpoint("tower"), weights_only=True)["model"], folder / "tower")
    for number in range(1, len(KEPT_FRACTIONS) + 1):
        path = run.checkpoint(f"joint-{number}")
        if path.exists():
            export_stage(
                torch.load(path, weights_only=True)["model"], folder / "stages" / str(number)
            )


def assess(run: TrainingRun, folder: Path, count: int, note: str = "") -> None:
    """Evaluate an exported model, and write OUT/figures.json and its card.

    Args:
        run: The training run of the model.
        folder: The folder of the export.
        count: The number of questions of a figure.
        note: A paragraph for the end of the card.
    """
    figures = evaluate(folder / "model", count)
    save_figures(figures, run.out / "figures.json")
    settings = run.settings
    steps = {stage: getattr(settings, f"{stage}_steps") for stage in STAGES}
    parameters = sum(weight.numel() for weight in run.model.parameters())
    facts = facts_of(parameters, len(token_ids()), steps, settings.batch, KEPT_FRACTIONS)
    write_card(folder, figures, facts, note)


def main(arguments: list[str] | None = None) -> int:
    """Run the stages that the arguments ask for, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kvtool.demo.training", description=__doc__)
    parser.add_argument(
        "out", type=Path, help="folder of the run: drawings, checkpoints, log, export"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the run")
    parser.add_argument(
        "--stage",
        choices=[*STAGES, "export", "evaluate"],
        help="this stage alone; the ones before must be done",
    )
    parser.add_argument(
        "--minutes", type=float, help="stop after so long, at a checkpoint; run again to go on"
    )
    parser.add_argument("--questions", type=int, default=1000, help="per figure of the card")
    parser.add_argument("--note", default="", help="a paragraph for the end of the card")
    parser.add_argument(
        "--tiny", action="store_true", help="a few steps of everything, to try the script"
    )
    options = parser.parse_args(arguments)
    settings = replace(tiny() if options.tiny else TrainingSettings(), seed=options.seed)
    run = TrainingRun(options.out, settings, options.minutes)
    # Stages build on each other: one that is cut short ends the call.
    for stage in STAGES:
        if options.stage in (None, stage) and not run.stage(stage):
            print(
                f"stopped in stage {stage} after {options.minutes} minutes: run again to go on",
                file=sys.stderr,
            )
            return 0
    if options.stage in (None, "export"):
        export(run, options.out / "demo")
    if options.stage in (None, "evaluate"):
        assess(run, options.out / "demo", options.questions, options.note)
    return 0


if __name__ == "__main__":
    sys.exit(main())

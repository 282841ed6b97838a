"""The model card of an adapter that is shipped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kvtool.adapters.shipped.figures import Figures
from kvtool.adapters.training import AdapterRecipe
from kvtool.stats.proportions import wilson

CARD = """# Adapter from the demo's tower into {title}

One linear layer; the language model and the vision tower (`demo-tower`) stay as they are. As a
model: `--model {name}-adapter`. Trained by `python -m kvtool.adapters.shipped {name} OUT` on
{scenes:,} scenes (`kvtool.demo`), started by a ridge fit of features to word embeddings:
{steps:,} steps of {batch} answers, AdamW at {learning_rate:g}.

## Measured

On {n_scenes} scenes that training has not drawn. The last column is the control: the same answers
behind, or against, the picture of another scene.

| what | value | another picture |
|---|---|---|
{rows}

Categories named: of the things in a picture, those whose category the caption names, each once.
Named ones that are there: of the categories in captions, those that the picture shows. Colors: of
the things whose category is named, those that are given their color.

| in the picture | what the model says |
|---|---|
{captions}
"""
TITLES = {"smollm2": "SmolLM2-135M-Instruct", "demo": "the demo model's decoder"}
QUESTIONS = {
    "existence": "`Is there a crab in the image?`, half yes",
    "color": "`What color is the crab?`, ten colors",
    "color_yes_no": "`Is there a red crab in the image?`, half yes",
}


def training_facts(scenes: int, recipe: AdapterRecipe) -> dict[str, Any]:
    """Return what the settings of an adapter say of its training."""
    return {
        "by": "python -m kvtool.adapters.shipped",
        "scenes": scenes,
        "start": "ridge",
        "steps": recipe.steps,
        "batch_size": recipe.batch,
        "learning_rate": recipe.learning_rate,
    }


def card(language: str, scenes: int, recipe: AdapterRecipe, figures: Figures) -> str:
    """Return the card of an adapter into a language model."""
    scores, swapped = figures.scores, figures.swapped
    # Each figure beside its control, by another scene's picture.
    rows = [
        ("cross-entropy of a token of answers", f"{scores.loss:.3f}", f"{swapped.loss:.3f}"),
        ("tokens of answers found", f"{scores.right:.3f}", f"{swapped.right:.3f}"),
    ]
    words = {
        "recall": "categories named",
        "precision": "named ones that are there",
        "colors": "colors",
    }
    rows += [
        (title, f"{value:.3f}", f"{getattr(figures.words_swapped, name):.3f}")
        for name, title in words.items()
        for value in [getattr(figures.words, name)]
    ]
    # Shares of questions have an interval, and no control.
    for answered in figures.questions:
        low, high = wilson(answered.n_right, answered.n)
        share = f"{answered.n_right / answered.n:.3f} ({low:.3f} to {high:.3f}, N {answered.n})"
        rows.append((QUESTIONS[answered.kind], share, ""))
    return CARD.format(
        name=language,
        title=TITLES[language],
        scenes=scenes,
        n_scenes=figures.n_scenes,
        rows="\n".join("| " + " | ".join(row) + " |" for row in rows),
        captions="\n".join(f"| {truth} | {answer} |" for truth, answer in figures.captions),
        **{name: value for name, value in asdict(recipe).items() if name != "seed"},
    )

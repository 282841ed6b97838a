"""The model card, written from the evaluation's figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kvtool.demo.training import config as sizes
from kvtool.demo.training.evaluate import TARGETS, Figure
from kvtool.demo.world import categories

MEANING = {
    "existence_f1": "existence of a category, as POPE asks "
    "(F1; half yes; random, popular and adversarial no)",
    "existence": "the same, accuracy",
    "color": "color of a thing, ten colors (`What color is the fish?`)",
    "count": "how many of a category, one to four equally often",
    "left_right": "left or right: of another thing, or half of the picture "
    "(answered `left` or `right`)",
    "top_bottom": "above or below another thing, top or bottom half of the picture (answered so)",
    "left_right_yes_no": "left or right of another thing as MME asks (yes/no, chance 0.5)",
    "above_below_yes_no": "above or below another thing as MME asks (yes/no, chance 0.5)",
    "side_yes_no": "half of the picture (yes/no, chance 0.5)",
    "left_right_choice": "left or right of another thing as CV-Bench asks (A or B, chance 0.5)",
    "above_below_choice": "above or below another thing as CV-Bench asks (A or B, chance 0.5)",
    "texture": "texture of a thing (three)",
    "color_yes_no": "`Is there a red fish in the image?`, half yes",
    "count_choice": "how many, as a choice of four (CV-Bench's manner)",
    "place": "place shown (six; half as yes/no)",
    "time": "day or night",
    "art_style": "which of two images has the style of the first (chance 0.5)",
    "similarity": "which of two images is most similar to the first (chance 0.5)",
    "correspondence": "which of four marked points corresponds (chance 0.25)",
}

"""Figure -> what it measures."""
HEAD = """# Demo model

A small multimodal language model of the LLaVA-OneVision class, trained on scenes (`kvtool.demo`) \
and on nothing
else. It is made for studying and testing kvtool offline, not for photographs: it knows \
{categories} categories drawn
as polygons, ten colors, and the {words} words of `kvtool.demo.language`.

- `model/`: SigLIP tower ({vision} wide, {pixels} px, patch {patch}: {tokens} image tokens), \
two-layer projector, Qwen2
  decoder ({layers} layers x {text}, {q_heads} query and {kv_heads} KV heads); {parameters:,} \
parameters, bfloat16.
- `tower/`: the vision tower as it was before the joint training.
- `stages/1` to `3`: the model {fractions} of the way through the joint training, int8
  (`kvtool.demo.weights.load_stage`).

Trained by `python -m kvtool.demo.training OUT`: the decoder on scenes in words ({text_steps} \
steps) and on symbolic
grids ({grid_steps}); the tower on captions (sigmoid loss) and dense maps of category, color and \
part ({tower_steps});
the projector fitted to the symbolic grids ({align_steps}); then everything on answers \
({joint_steps} steps of
{batch} images). Image prompts hold base views: {tokens} image tokens and one newline each.

## Measured

Greedy generation by transformers in bfloat16 on scenes that training has not drawn; 95 % \
intervals (Wilson; for F1 a
bootstrap over questions).

| question | value | 95 % interval | N | target |
|---|---|---|---|---|
"""


def card(figures: Sequence[Figure], facts: dict[str, object], note: str = "") -> str:
    """Return the text of the card.

    Args:
        figures: The rows of its table.
        facts: What its head says, see `facts_of`.
        note: A paragraph for the end.
    """
    lines = []
    for figure in figures:
        target = f"{TARGETS[figure.name]:.2f}" if figure.name in TARGETS else ""
        meaning = MEANING.get(figure.name, f"of these: {figure.name.replace('_', ' ')}")
        interval = f"{figure.low:.3f} to {figure.high:.3f}"
        lines.append(f"| {meaning} | {figure.value:.3f} | {interval} | {figure.n} | {target} |")
    table = "\n".join(lines)
    ending = f"\n{note}\n" if note else ""
    return f"{HEAD.format(**facts)}{table}\n\n{verdict(figures)}\n{ending}"


def verdict(figures: Sequence[Figure]) -> str:
    """Say in one sentence which targets are met."""
    values = {figure.name: figure.value for figure in figures}
    missed = [name for name, target in TARGETS.items() if values[name] < target]
    if not missed:
        return "All targets are met."
    names = ", ".join(name.replace("_", " ") for name in missed)
    return f"Missed: {names}. The figures above are what the model does."


def facts_of(
    parameters: int, n_tokens: int, steps: dict[str, int], batch: int, fractions: Sequence[float]
) -> dict[str, object]:
    """Return what the head of the card says.

    Args:
        parameters: The number of the model's parameters.
        n_tokens: The size of the vocabulary.
        steps: Stage -> its optimizer steps.
        batch: The number of images of a step of the joint training.
        fractions: Where along the joint training the early checkpoints were taken.
    """
    return {
        "categories": len(categories()),
        "words": n_tokens,
        "vision": sizes.VISION_DIM,
        "pixels": sizes.IMAGE_PX,
        "patch": sizes.PATCH_PX,
        "tokens": sizes.IMAGE_TOKENS,
        "layers": sizes.LAYERS,
        "text": sizes.TEXT_DIM,
        "q_heads": sizes.Q_HEADS,
        "kv_heads": sizes.KV_HEADS,
        "parameters": parameters,
        "batch": batch,
        "fractions": ", ".join(f"{fraction:.0%}" for fraction in fractions),
        **{f"{stage}_steps": f"{count:,}" for stage, count in steps.items()},
    }


def write_card(
    folder: Path, figures: Sequence[Figure], facts: dict[str, object], note: str = ""
) -> None:
    """Write the card into the folder, see `card`."""
    (folder / "MODEL_CARD.md").write_text(card(figures, facts, note))

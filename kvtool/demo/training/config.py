"""Sizes of the demo model and settings of its training."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_PX = 96
PATCH_PX = 8
GRID = IMAGE_PX // PATCH_PX
IMAGE_TOKENS = GRID * GRID
VISION_DIM = 96
TEXT_DIM = 128
LAYERS = 8
Q_HEADS = 4
KV_HEADS = 2
MLP_DIM = 256
PINPOINTS = [[96, 96], [96, 192], [192, 96], [192, 192]]

EARLY_LAYERS = 5
"""What is true of a word (drills) must be known after so many layers, before a second hop."""
IGNORED = -100
"""The label of a position without loss."""

Slots = tuple[tuple[int, int], ...]
"""Groups of question slots after a context: (number of slots, tokens of a slot)."""


@dataclass(frozen=True)
class TrainingSettings:
    """Everything a training run depends on.

    Steps are optimizer steps. Learning rates are Muon's; those of AdamW follow from them.
    """

    seed: int = 0
    train_scenes: int = 60_000
    train_streets: int = 3_000
    train_comparisons: int = 4_000
    held_out: int = 1_000
    batch: int = 8
    text_steps: int = 3_000
    grid_steps: int = 7_500
    tower_steps: int = 6_750
    tower_batch: int = 24
    align_steps: int = 1_800
    joint_steps: int = 7_400
    learning_rate: float = 0.01
    tower_rate: float = 0.01
    joint_rate: float = 0.004
    joint_projector_rate: float = 0.000_5
    joint_tower_rate: float = 0.000_1
    slots: Slots = ((6, 16), (4, 24), (1, 52))
    drills: float = 0.35
    stubs: float = 0.15
    chains: float = 0.15
    joint_drills: float = 0.2
    joint_stubs: float = 0.25
    joint_chains: float = 0.15
    compact: float = 0.1
    compiled: bool = True
    checkpoint_every: int = 500


def tiny() -> TrainingSettings:
    """Return the settings of a few steps of everything, for tests."""
    return TrainingSettings(
        train_scenes=24,
        train_streets=4,
        train_comparisons=4,
        held_out=8,
        batch=2,
        text_steps=4,
        grid_steps=4,
        tower_steps=4,
        tower_batch=4,
        align_steps=4,
        joint_steps=9,
        slots=((2, 16), (1, 24), (1, 52)),
        compiled=False,
        checkpoint_every=2,
    )

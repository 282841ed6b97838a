"""Which blocks of a run a request names, and the device that scores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvtool.errors import UsageError
from kvtool.layers import LayerChoice, named_layers
from kvtool.store import Run
from kvtool.tasks.base import BlockPlan
from kvtool.types import HIDDEN, TOWER_KINDS, VECTOR_KINDS, Kind

if TYPE_CHECKING:
    import torch

DECODER: tuple[Kind, ...] = ("key", "value")
BASELINES: tuple[Kind, ...] = ("projected", "vision")


def plan_blocks(
    run: Run,
    kinds: Sequence[Kind] | None,
    layers: LayerChoice | None,
    heads: Sequence[int] | None,
    task_kinds: Sequence[Kind] = VECTOR_KINDS,
) -> BlockPlan:
    """The stored blocks that a request names, of kinds the task is able to score.

    Raises UsageError for others.
    """
    # Only kinds that the run stores and the task can score are candidates.
    stored = [kind for kind in run.config.vector_kinds if kind in task_kinds]
    if not stored:
        reason = (
            "" if "vision" in task_kinds else f"; {run.config.model.family} has no text tower here"
        )
        raise UsageError(
            f"run {run.name}: the task scores {', '.join(task_kinds)}; stored: "
            f"{', '.join(run.config.kinds)}{reason if not run.config.layers else ''}"
        )
    # By default the decoder's values, else its keys, beside what the vision side gives.
    if kinds is None:
        decoder = [kind for kind in ("value", "key") if kind in stored][:1]
        kinds = [*decoder, *(kind for kind in BASELINES if kind in stored)]
    # Layers and heads name those of the decoder; of an encoder alone those of its own.
    with_heads = [kind for kind in DECODER if kind in kinds] or [
        kind for kind in kinds if kind != "projected"
    ]
    # The residual stream has the decoder's layers, but no heads to choose among.
    narrowed = {*with_heads, HIDDEN}
    blocks = []
    for kind in dict.fromkeys(kinds):
        if kind not in VECTOR_KINDS or kind not in stored:
            raise UsageError(
                f"run {run.name}: {kind} is {_why_not(run, kind)}, only {', '.join(stored)}"
            )
        layer_numbers = _layers_of(run, kind, layers if kind in narrowed else None)
        head_numbers = _heads_of(run, kind, heads if kind in with_heads else None)
        # Where layers differ in their number of heads, each has those of the chosen ones it has.
        for group, n_heads in run.config.blocks_of(kind, layer_numbers):
            members = tuple(head for head in head_numbers if head < n_heads)
            blocks += [(kind, group, members)] if members else []
    return BlockPlan(run, tuple(blocks))


def _layers_of(run: Run, kind: Kind, layers: LayerChoice | None) -> tuple[int, ...]:
    """Return the chosen layers of a kind, by default all that are stored. Raises UsageError."""
    stored = run.config.stored_layers(kind)
    numbers = stored if layers is None else _stored_of(run, kind, layers, stored)
    _check(run, kind, "layer", numbers, stored)
    return numbers


def _heads_of(run: Run, kind: Kind, heads: Sequence[int] | None) -> tuple[int, ...]:
    """Return the chosen heads of a kind, each once, by default all. Raises UsageError."""
    count, _ = run.config.heads_and_dim(kind)
    numbers = tuple(range(count)) if heads is None else tuple(dict.fromkeys(heads))
    _check(run, kind, "kv_head", numbers, range(count))
    return numbers


def _why_not(run: Run, kind: Kind) -> str:
    """Return why the vectors of a kind cannot be scored."""
    if kind not in run.config.kinds:
        return "not stored"
    return (
        "without text vectors, which the task needs" if kind in VECTOR_KINDS else "not of vectors"
    )


def _stored_of(run: Run, kind: Kind, layers: LayerChoice, stored: Sequence[int]) -> tuple[int, ...]:
    """The numbers of chosen layers; of a name, those of its layers that are stored."""
    geometry = run.config.model.geometry
    if not isinstance(layers, str):
        numbers = tuple(dict.fromkeys(layers))
        # Of layers without keys and values of their own there are no blocks.
        absent = set(run.config.layers) - set(run.config.cached_layers)
        with_blocks = tuple(layer for layer in numbers if layer not in absent)
        if kind not in DECODER or not absent & set(numbers):
            return numbers
        if not with_blocks:
            raise UsageError(
                f"run {run.name}: {geometry.without_cache(numbers[0])}: expected some of "
                f"{', '.join(map(str, stored))}"
            )
        return with_blocks
    depth = geometry.vision_layers if kind in TOWER_KINDS else geometry.layers
    # A name such as late means a part of the whole depth, of which a run may store some layers.
    members = named_layers(layers, depth)
    numbers = tuple(layer for layer in stored if layer in members)
    if not numbers:
        listed = ", ".join(map(str, stored))
        raise UsageError(
            f"run {run.name}: {kind} has none of the {layers} layers; stored: {listed}"
        )
    return numbers


def _check(run: Run, kind: str, what: str, numbers: Sequence[int], stored: Sequence[int]) -> None:
    absent = [number for number in numbers if number not in stored]
    if absent or not numbers:
        listed = ", ".join(map(str, stored))
        raise UsageError(
            f"run {run.name}: {kind} has no {what} {', '.join(map(str, absent))}; stored: {listed}"
        )


def baseline_kinds(run: Run, task_kinds: Sequence[Kind] = VECTOR_KINDS) -> list[Kind]:
    """The kinds by which a run is a baseline for others, of those that a task is able to score."""
    return [kind for kind in BASELINES if kind in run.config.kinds and kind in task_kinds]


def baseline_plan(run: Run, task_kinds: Sequence[Kind] = VECTOR_KINDS) -> BlockPlan:
    """The blocks by which a run is a baseline for others."""
    return plan_blocks(run, baseline_kinds(run, task_kinds), None, None, task_kinds)


def torch_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one. Raises UsageError."""
    from kvtool.models.device import chosen_device

    return chosen_device(name)

"""The conditions of an intervention: methods in all the heads given and, where one is chosen among
them, in each head alone; with the controls of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvtool.asking.heads import (
    HeadCondition,
    HeadSet,
    control_conditions,
    recurrent_notes,
    select_heads,
)
from kvtool.models.methods import Method
from kvtool.types import Geometry

NONE = "none"


@dataclass(frozen=True)
class MethodConditions:
    """Makes conditions of heads.

    Attributes:
        methods: What is done.
        controls: The controls that are drawn, by their names.
        draws: How often each of them is drawn.
        seed: The random seed of the draws.
        singles: Whether each head alone is a condition, too.
    """

    methods: Sequence[Method]
    controls: Sequence[str]
    draws: int
    seed: int
    singles: bool

    def __call__(
        self, heads: HeadSet, geometry: Geometry, layers: tuple[int, ...] | None
    ) -> tuple[list[HeadCondition], list[str]]:
        """Return the model as it is, each method in the chosen heads, and after each its controls;
        and notes. Raises UsageError as select_heads and control_conditions do.
        """
        selected = select_heads(heads, layers)
        # The choice is among all heads together and each of them alone.
        sets = {"": selected}
        if self.singles and len(selected) > 1:
            sets |= {
                f" {layer}:{kv_head}": frozenset({(layer, kv_head)})
                for layer, kv_head in sorted(selected)
            }
        conditions = [HeadCondition(NONE, frozenset())]
        notes = recurrent_notes(geometry)
        # Each set has controls of its own size, the same ones for every method.
        for suffix, members in sets.items():
            control_sets, drawing_notes = control_conditions(
                HeadSet(members, heads.dependent),
                geometry,
                layers,
                self.controls,
                self.draws,
                self.seed,
            )
            notes += drawing_notes
            for method in self.methods:
                name = f"{method.label}{suffix}"
                conditions.append(HeadCondition(name, members, method=method))
                conditions += [
                    HeadCondition(f"{name} {control.name}", control.heads, control.draw, method)
                    for control in control_sets
                ]
        return conditions, list(dict.fromkeys(notes))


def candidates(conditions: Sequence[HeadCondition]) -> list[HeadCondition]:
    """Return the model as it is, and the conditions that are no controls."""
    return [condition for condition in conditions if condition.draw is None]


def with_controls(
    conditions: Sequence[HeadCondition], choice: HeadCondition
) -> list[HeadCondition]:
    """Return the model as it is, a condition, and its controls."""
    return [
        condition
        for condition in conditions
        if condition.name == NONE or condition is choice or is_control_of(condition, choice)
    ]


def is_control_of(condition: HeadCondition, choice: HeadCondition) -> bool:
    """Tell whether a condition is a control of another one."""
    return condition.draw is not None and condition.name.rpartition(" ")[0] == choice.name

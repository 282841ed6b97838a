"""The heads that are blocked or changed: sets read from rows, their split over the depth, and
controls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import Any

import numpy as np

from kvtool.display import numbered
from kvtool.errors import UsageError
from kvtool.inputs import STANDARD_INPUT, read_input
from kvtool.layers import layer_groups
from kvtool.models.methods import Head, Intervention, Method
from kvtool.types import Geometry

Heads = frozenset[Head]
Change = Heads | Intervention
"""What is done while a question is asked: the heads that are blocked, or what else is done."""
Row = dict[str, Any]
CONTROLS = ("dependent", "random")
SOURCES = (
    "agnostic, lowest:N, best:TASK[:N], localization[:N], sinks[:N], all, layer:head, numbers, -"
)
"""What names heads, besides a file."""
MAX_HEADS_BYTES = 1 << 24


@dataclass(frozen=True)
class HeadCondition:
    """One way of asking every question.

    Attributes:
        name: What rows call it.
        heads: The heads concerned.
        draw: The number of a control's draw, else None.
        method: What is done in the heads; None where they are blocked.
    """

    name: str
    heads: Heads
    draw: int | None = None
    method: Method | None = None

    @property
    def change(self) -> Change:
        """What is done: a method that blocks, or changes nothing, is a set of blocked heads."""
        if self.method is None or self.method.blocks:
            return self.heads
        if self.method.changes_nothing:
            return frozenset()
        return Intervention(self.method, self.heads)

    def record(self) -> Row:
        """Return what a result says of it."""
        heads = [list(head) for head in sorted(self.heads)]
        method = {} if self.method is None else {"method": self.method.label}
        return {"condition": self.name, "draw": self.draw, **method, "heads": heads}


@dataclass(frozen=True)
class HeadSet:
    """The heads that are asked for: those chosen, and those that depend on the input.

    A control of the same size is drawn from the dependent heads.
    """

    selected: Heads
    dependent: Heads


def read_rows(source: str) -> list[tuple[str, Row]]:
    """Read the JSON lines of a file or a pipe, or of standard input for "-", and where each stands.

    Raises UsageError for what cannot be read or is no JSON object.
    """
    location = "standard input" if source == STANDARD_INPUT else source
    try:
        text = read_input(source, MAX_HEADS_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason
        raise UsageError(
            f"heads {location}: expected {SOURCES} or a readable file of JSON lines, found: "
            f"{reason}"
        ) from None
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return [
        (f"heads {location}: line {number}", _object(line, f"heads {location}: line {number}"))
        for number, line in lines
    ]


def _object(line: str, location: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{location}: expected JSON, found: {error}") from None
    if not isinstance(row, dict):
        raise UsageError(
            f"{location}: expected a JSON object with layer and kv_head, found {type(row).__name__}"
        )
    return row


def head_set(rows: Iterable[tuple[str, Row]], geometry: Geometry, source: str) -> HeadSet:
    """Return the heads of rows with layer and kv_head.

    Where rows say `input_agnostic`, these are the heads of keys for which it is true, and the
    dependent ones those for which it is false; where none says anything, every other head is
    dependent. A row of which nobody knows (null, since its values are not finite, or no threshold
    was determined) is neither. Raises UsageError for fields that are missing or out of range, and
    for an empty set.
    """
    agnostic_heads: set[Head] = set()
    dependent: set[Head] = set()
    n_rows = 0
    judged = False
    # Values have variances too, but keys alone make a head input-agnostic.
    for location, row in rows:
        n_rows += 1
        head = _head(row, geometry, location)
        if "input_agnostic" not in row:
            agnostic_heads.add(head)
        elif row.get("kind", "key") == "key":
            judged = True
            if row["input_agnostic"] is not None:
                (agnostic_heads if row["input_agnostic"] is True else dependent).add(head)
    if not agnostic_heads:
        description = f"{n_rows} rows and none of an input-agnostic key" if n_rows else "none"
        raise UsageError(
            f"heads {source}: expected at least one head, found {description}; "
            "give a file of JSON lines with layer and kv_head, or see kvtool variance --threshold"
        )
    all_heads = set(geometry.heads)
    return HeadSet(
        frozenset(agnostic_heads), frozenset((dependent if judged else all_heads) - agnostic_heads)
    )


def _head(row: Row, geometry: Geometry, location: str) -> Head:
    if row.get("kind", "key") not in ("key", "value"):
        raise UsageError(
            f"{location}: expected a head of the decoder (kind key or value), found kind "
            f"{row['kind']!r}"
        )
    for name in ("layer", "kv_head"):
        # A layer's own heads; the row's layer was looked at first.
        count = geometry.layers if name == "layer" else geometry.shape(row["layer"])[0]
        if not count:
            raise UsageError(
                f"{location}: {geometry.without_cache(row['layer'])}: expected one of "
                f"{', '.join(map(str, geometry.cached_layers))}"
            )
        number = row.get(name)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < count:
            description = (
                json.dumps(number)
                if name in row
                else f"no such field among {', '.join(list(row)[:6]) or 'none'}"
            )
            raise UsageError(
                f"{location}: expected {name} from 0 to {count - 1}, found {description}"
            )
    return row["layer"], row["kv_head"]


def make_conditions(
    heads: HeadSet,
    geometry: Geometry,
    layers: tuple[int, ...] | None,
    controls: Sequence[str],
    draws: int,
    seed: int,
) -> tuple[list[HeadCondition], list[str]]:
    """Return the conditions none, chosen, its early, middle and late parts, and the controls; and
    notes on them.

    Only heads in `layers` are blocked, and controls are drawn from these. Raises UsageError for a
    control of another name, and where no chosen head remains.
    """
    selected = select_heads(heads, layers)
    conditions, notes = _parts(selected, geometry)
    notes += recurrent_notes(geometry)
    control_sets, control_notes = control_conditions(
        replace(heads, selected=selected), geometry, layers, controls, draws, seed
    )
    return [*conditions, *control_sets], [*notes, *control_notes]


def select_heads(heads: HeadSet, layers: tuple[int, ...] | None) -> Heads:
    """Return the chosen heads in some layers, or all. Raises UsageError where none remains."""
    selected = frozenset(head for head in heads.selected if layers is None or head[0] in layers)
    if not selected:
        has = ", ".join(map(str, sorted({layer for layer, _ in heads.selected})))
        raise UsageError(
            "layers: expected some that hold a chosen head, found none of them; chosen heads are "
            f"in {has}"
        )
    return selected


def recurrent_notes(geometry: Geometry) -> list[str]:
    """Say which layers have no heads of attention."""
    if not geometry.recurrent:
        return []
    return [
        f"{numbered('layer', geometry.recurrent)} of linear attention: no heads to block; what "
        "they saw of a picture they pass on"
    ]


def control_conditions(
    heads: HeadSet,
    geometry: Geometry,
    layers: tuple[int, ...] | None,
    controls: Sequence[str],
    draws: int,
    seed: int,
) -> tuple[list[HeadCondition], list[str]]:
    """Return as many heads as the chosen ones, drawn again for each control; and notes.

    They are drawn from some layers, or from every layer that holds a chosen head. A random control
    may share heads with the chosen ones, but is never the same set; no draw repeats an earlier one.
    Raises UsageError for a control of another name.
    """
    if unknown := [name for name in controls if name not in CONTROLS]:
        raise UsageError(f"controls: expected some of {', '.join(CONTROLS)}, found {unknown[0]!r}")
    if draws < 1:
        raise UsageError(f"draws: expected 1 or more, found {draws}")
    selected = heads.selected
    conditions: list[HeadCondition] = []
    notes = []
    # Controls come from the layers of the chosen heads: what a head does depends on its layer.
    pool = layers or tuple(sorted({layer for layer, _ in selected}))
    all_heads = {head for head in geometry.heads if head[0] in pool}
    pools = {"dependent": all_heads & heads.dependent, "random": all_heads}
    for name in dict.fromkeys(controls):
        control_sets = draw_control(name, pools[name], selected, draws, seed)
        # All heads of the layers, where these are the chosen ones, leave none to draw.
        n_heads = len(pools[name] if control_sets else pools[name] - selected)
        if n_heads < len(selected):
            notes.append(
                f"control {name}: {n_heads} heads to draw in these layers, not {len(selected)}"
            )
        if 0 < len(control_sets) < draws:
            notes.append(
                f"control {name}: distinct draws in these layers: {len(control_sets)}, not {draws}"
            )
        conditions += control_sets
    return conditions, notes


def _parts(selected: Heads, geometry: Geometry) -> tuple[list[HeadCondition], list[str]]:
    """Return the conditions none, chosen, and its parts by depth; a note for each empty part."""
    conditions = [HeadCondition("none", frozenset()), HeadCondition("chosen", selected)]
    notes = []
    for name, group in layer_groups(geometry.layers).items():
        part = frozenset(head for head in selected if head[0] in group)
        if part:
            conditions.append(HeadCondition(name, part))
        else:
            notes.append(
                f"condition {name}: no chosen head in layers {group.start}-{group.stop - 1}, left "
                "out"
            )
    return conditions, notes


def draw_control(
    name: str, pool: Iterable[Head], selected: Heads, draws: int, seed: int
) -> list[HeadCondition]:
    """Draw `draws` sets of as many heads as the chosen ones, or of all where there are fewer, each
    without repetition.

    No set is the chosen one, or an earlier draw: where there are fewer such sets, all are drawn.
    """
    # Sets have no order of their own: sorted, one seed draws the same heads everywhere.
    ordered = sorted(pool)
    count = min(len(selected), len(ordered))
    # The chosen set itself is no control: where it could be drawn, there is one set less.
    is_drawable = len(selected) == count and selected <= set(ordered)
    n_sets = comb(len(ordered), count) - is_drawable if count else 0
    earlier_sets = {selected}
    conditions = []
    for draw in range(min(draws, n_sets)):
        # A stream of its own for each draw: more draws leave the first ones as they were.
        rng = np.random.default_rng([seed, CONTROLS.index(name), draw])
        heads = selected
        # A draw that was there before is drawn again: equal controls would be counted twice.
        while heads in earlier_sets:
            picks = rng.choice(len(ordered), count, replace=False)
            heads = frozenset(ordered[pick] for pick in picks.tolist())
        earlier_sets.add(heads)
        conditions.append(HeadCondition(name, heads, draw))
    return conditions

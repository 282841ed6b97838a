"""What is measured of the maps of each head: numbers of one text that add up over texts, and the
scores they turn into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtool.asking.inquiries import Array
from kvtool.experiments.attend.truths import CellTruth
from kvtool.features.attention_maps import entropy, sink_share
from kvtool.metrics.ranking import rank_cells
from kvtool.result import Row
from kvtool.stats.bootstrap import Scores
from kvtool.stats.resampling import ratio
from kvtool.tasks.base import Table, table_rows
from kvtool.types import Geometry

COLUMNS = (
    *("mass", "texts", "entropy", "sink_share", "looking"),
    *("auroc", "pointing", "masked"),
    *("auroc_permuted", "pointing_permuted", "permuted", "pointing_chance"),
)
"""The numbers of one text and head; `looking`, `masked` and `permuted` count the texts of which
those before them are defined."""
COLUMN = {name: number for number, name in enumerate(COLUMNS)}
MASKED = ("auroc", "pointing")
PERMUTED = ("auroc_permuted", "pointing_permuted")
CHANCE = 0.5
"""The AUROC of a map that knows nothing."""


def mass_of(maps: Array) -> Array:
    """Return the attention on the picture, (map,), of maps over all of its tokens, (map, token)."""
    # Weights are float32 each: all of them together may exceed 1 by their rounding.
    mass: Array = np.minimum(maps.sum(axis=-1), 1.0)
    return mass


def map_units(
    maps: Array, cells: Array, truth: CellTruth | None, strangers: Sequence[CellTruth]
) -> Array:
    """Measure the maps of a text, (map, COLUMNS) float64.

    Args:
        maps: Attention on all tokens of the picture, (map, token).
        cells: Indices of the tokens of the base grid, (cell,).
        truth: The object; None where it is not known.
        strangers: Objects of other pictures.
    """
    maps = maps.astype(np.float64)
    units = np.zeros((len(maps), len(COLUMNS)))
    mass = mass_of(maps)
    # A window that has slid past the picture sees nothing of it.
    is_looking = mass > 0
    units[:, COLUMN["mass"]] = mass
    units[:, COLUMN["texts"]] = 1
    # Where a map is empty its shape is undefined: it adds 0 and is not counted as looking.
    units[:, COLUMN["entropy"]] = np.nan_to_num(entropy(maps))
    units[:, COLUMN["sink_share"]] = np.nan_to_num(sink_share(maps))
    units[:, COLUMN["looking"]] = is_looking
    if truth is None:
        return units
    # Masks lie on the base grid: tokens of further tiles are left out here.
    on_grid = maps[:, cells]
    _put(units, MASKED, "masked", _found(on_grid, truth), is_looking)
    # A random token points at the object as often as the object is large.
    units[:, COLUMN["pointing_chance"]] = is_looking * truth.is_inside.mean()
    if strangers:
        # Objects of other pictures tell what is gained by knowing where objects tend to be.
        scores = np.mean([_found(on_grid, stranger) for stranger in strangers], axis=0)
        _put(units, PERMUTED, "permuted", scores, is_looking)
    return units


def _found(maps: Array, truth: CellTruth) -> Array:
    """Score maps (map, cell) by an object: (2, map), the AUROC and whether the strongest cell lies
    in it.
    """
    _, auroc = rank_cells(maps, truth.positives, truth.negatives)
    return np.stack([auroc, truth.is_inside[maps.argmax(axis=-1)].astype(np.float64)])


def _put(
    units: Array, names: Sequence[str], counter: str, scores: Array, is_looking: Array
) -> None:
    """Set the columns of scores (name, map) and that of their number, where they are defined."""
    # A score counts only where the map sees something and the score is defined.
    defined = is_looking & ~np.isnan(scores).any(axis=0)
    for name, column in zip(names, scores, strict=True):
        units[:, COLUMN[name]] = np.where(defined, column, 0.0)
    units[:, COLUMN[counter]] = defined


def _mean(sums: Array, name: str, counter: str) -> Array:
    return ratio(sums[..., COLUMN[name]], sums[..., COLUMN[counter]])


def scores_of(has_masks: bool) -> Scores:
    """Return what turns sums of units (..., COLUMNS) into scores."""

    def scores(sums: Array) -> dict[str, Array]:
        """Score sums over texts."""
        mass = _mean(sums, "mass", "texts")
        masked = {name: _mean(sums, name, "masked") for name in MASKED if has_masks}
        spread = {name: _mean(sums, name, "looking") for name in ("entropy", "sink_share")}
        return {**masked, "mass": mass, "mass_text": 1 - mass, **spread}

    return scores


def unit_rows(
    blocks: Sequence[Row], units: Array, pictures: Array, has_masks: bool, seed: int
) -> list[Row]:
    """Return a row for each map of texts' units (map, text, COLUMNS), with intervals by picture
    (text,), and what knows nothing gets.
    """
    table = Table({}, units, scores_of(has_masks), clusters=pictures)
    rows = table_rows(blocks, table, seed)
    if not has_masks:
        return rows
    # Levels of chance are of the same texts as the scores.
    sums = units.sum(axis=1)
    levels: dict[str, Any] = {name: _mean(sums, name, "permuted") for name in PERMUTED}
    levels["pointing_chance"] = _mean(sums, "pointing_chance", "masked")
    counts = sums[:, COLUMN["masked"]].astype(int).tolist()
    return [
        row
        | {name: _number(values[index]) for name, values in levels.items()}
        | {"chance": CHANCE, "n_masks": counts[index]}
        for index, row in enumerate(rows)
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def blocks_of(layers: Sequence[int], geometry: Geometry) -> list[Row]:
    """Return the labels of the query heads of some layers, in the order of maps."""
    q_heads = geometry.q_heads
    # Neighboring query heads share a KV head.
    return [
        {"layer": layer, "q_head": head, "kv_head": head * geometry.shape(layer)[0] // q_heads}
        for layer in layers
        for head in range(q_heads)
    ]

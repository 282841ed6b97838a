"""A study of attention on pictures: every head's maps, and the localization heads, which are chosen
on one half of the pictures and scored on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kvtool.asking.attending import Attender, Look
from kvtool.asking.inquiries import Array, Inquiry
from kvtool.asking.records import numbered
from kvtool.errors import KvtoolError
from kvtool.experiments.attend.measures import (
    COLUMN,
    MASKED,
    PERMUTED,
    blocks_of,
    map_units,
    scores_of,
    unit_rows,
)
from kvtool.experiments.attend.pictures import Numbers, PictureShares, ReadPicture
from kvtool.experiments.attend.segmentation import AttentionMasks
from kvtool.experiments.attend.truths import Truths, read_truths, strangers_of
from kvtool.features.attention_maps import smoothed_sum, spatial_entropy
from kvtool.features.localization import HeadChoice, elbow
from kvtool.result import MAX_REASONS, Result, Row, best_row, versions
from kvtool.stats.halves import halves

JOINED_FIELDS = (
    *(f"{name}{end}" for name in MASKED for end in ("", "_low", "_high")),
    *PERMUTED,
    *("pointing_chance", "chance", "n_masks"),
)
"""What is told of the localization heads' common map: how much attention several heads have
together is no share of anything."""


@dataclass
class AttendStudy:
    """What is asked of which run, and what is measured of it.

    Attributes:
        attender: What gives the maps.
        inquiries: The texts, each about a picture.
        config: All that the numbers depend on.
        n_heads: The number of localization heads.
        seed: The random seed of intervals, halves and strangers.
        skipped: Lines of what was left out before.
        notes: What the user should know of the result.
        masks: What segments by attention; None where there are no sentences about objects.
    """

    attender: Attender
    inquiries: Sequence[Inquiry]
    config: dict[str, Any]
    n_heads: int
    seed: int
    skipped: Sequence[str] = ()
    notes: Sequence[str] = ()
    masks: AttentionMasks | None = None
    _truths: Truths = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)
    _parts: tuple[list[Inquiry], list[Inquiry]] = ([], [])
    _first_numbers: dict[str, Numbers] = field(default_factory=dict)
    _second_numbers: dict[str, Numbers] = field(default_factory=dict)
    _heads: Sequence[int] = ()

    @cached_property
    def blocks(self) -> list[Row]:
        """The labels of all heads, in the order of maps."""
        return blocks_of(self.attender.layers, self.attender.run.config.model.geometry)

    def look(self, shares: PictureShares) -> None:
        """Measure all heads over all inquiries, with the others who do. Raises BusyError, and
        KvtoolError where nothing can be asked.
        """
        self._truths, unusable = read_truths(self.attender.run, self.inquiries)
        self._lines = [*self.skipped, *unusable]
        # An object that cannot be used costs its inquiry.
        spoiled = {inquiry.id for inquiry in self.inquiries if inquiry.mask} - self._truths.keys()
        inquiries = [inquiry for inquiry in self.inquiries if inquiry.id not in spoiled]
        if not inquiries:
            reason = (self._lines or ["nothing"])[0]
            raise KvtoolError(f"attend: expected texts about pictures, found none: {reason}")
        shares.progress(0, "", len({inquiry.image for inquiry in inquiries}))
        # Heads are chosen on one half and scored on the other: their score is not flattered.
        first, second = self._parts = self._halves(inquiries)
        self._first_numbers = self._read(shares.measured("choice", first, self._choosing))
        self._heads = self._choice().heads(self.n_heads)
        # What is measured of the other half depends on the heads that are chosen.
        step = f"heads {self._heads}"
        self._second_numbers = self._read(shares.measured(step, second, self._scoring))

    def result(self) -> Result:
        """Return the rows of all heads. Raises KvtoolError where no token looked."""
        numbers = self._first_numbers | self._second_numbers
        if not numbers:
            reason = (self._lines or [""])[0]
            raise KvtoolError(f"attend: expected texts whose tokens look, found none: {reason}")
        units = {name: arrays["units"] for name, arrays in numbers.items()}
        # Inquiries of which no token looked have no numbers.
        measured = [[entry for entry in half if entry.id in units] for half in self._parts]
        localization = self._localization(self._choice(), self._heads)
        joined = JoinedHeads(self._heads, self.masks)
        by_id = {inquiry.id: inquiry for inquiry in self.inquiries}
        for name, arrays in self._second_numbers.items():
            joined.add(by_id[name], arrays)
        if joined.units:
            localization |= self._joined(joined, measured[0])
        return self._result(measured, units, self._lines, localization)

    def _read(self, reads: Sequence[ReadPicture]) -> dict[str, Numbers]:
        """Return the numbers of all texts about some pictures, by the texts' ids."""
        numbers: dict[str, Numbers] = {}
        for read in reads:
            picture = read()
            numbers |= picture.entries
            self._lines += picture.skipped
        return numbers

    def _choice(self) -> HeadChoice:
        """Return the sums by which the localization heads are chosen."""
        choice = HeadChoice(len(self.blocks))
        for arrays in self._first_numbers.values():
            choice.add(arrays["entropies"], arrays["mass"])
        return choice

    def _choosing(self, _: str, looks: Iterator[Look]) -> dict[str, Numbers]:
        """Measure the looks at a picture by which heads are chosen."""
        return {look.inquiry.id: self._choosing_numbers(look) for look in looks}

    def _choosing_numbers(self, look: Look) -> Numbers:
        span, maps = look.sample.base(), look.mean
        return {
            "units": self._units(look, maps),
            "mass": maps.sum(axis=1),
            "entropies": spatial_entropy(maps[:, span.token_indices()], span.grid),
        }

    def _scoring(self, _: str, looks: Iterator[Look]) -> dict[str, Numbers]:
        """Measure the looks at a picture by which heads, and those chosen, are scored."""
        joined = JoinedHeads(self._heads, self.masks)
        return {
            look.inquiry.id: {"units": self._units(look, look.mean)}
            | joined.measured(look, self._units)
            for look in looks
        }

    def _halves(self, inquiries: Sequence[Inquiry]) -> tuple[list[Inquiry], list[Inquiry]]:
        """Return the inquiries about one half of the pictures, and those about the other."""
        first, second = halves(len(inquiries), self.seed, self._pictures(inquiries))
        if not len(first):  # one picture: it chooses, and nothing is left to score
            first, second = second, first
        return [inquiries[i] for i in first], [inquiries[i] for i in second]

    def _units(self, look: Look, maps: Array) -> Array:
        """Measure maps (map, token) of a look."""
        cells = np.array(look.sample.base().token_indices())
        name = look.inquiry.id
        # Texts without an object have units all the same, with no scores of one.
        truth = self._truths.get(name)
        return map_units(maps, cells, truth, self._strangers.get(name, []))

    @cached_property
    def _strangers(self) -> dict[str, Any]:
        return strangers_of(self.inquiries, self._truths, self.seed)

    def _pictures(self, inquiries: Sequence[Inquiry]) -> Array:
        """Return the number of each inquiry's picture; pictures of equal bytes are one."""
        digests = {sample.id: sample.digest for sample in self.attender.run.samples}
        return numbered([digests[inquiry.image] or inquiry.image for inquiry in inquiries])

    def _localization(self, choice: HeadChoice, heads: Sequence[int]) -> Row:
        """Return the heads that were chosen, and how."""
        frequencies = choice.frequencies()
        n = len(choice.entropies)
        return {
            "heads": [self.blocks[head] | {"frequency": frequencies[head]} for head in heads],
            "n_chosen": n,
            "n_candidates": len(choice.candidates()),
            "threshold": elbow(choice.mass) / max(1, n),
        }

    def _joined(self, joined: JoinedHeads, choosing: Sequence[Inquiry]) -> Row:
        """Return the scores of the localization heads' common map."""
        (row,) = self._rows([{}], joined.inquiries, np.stack(joined.units, axis=1))
        fields = {name: value for name, value in row.items() if name in JOINED_FIELDS}
        names = {inquiry.id for inquiry in choosing}
        segmentation = None if self.masks is None else self.masks.outcome(names)
        return fields | {"n_scored": row["n"], "segmentation": segmentation}

    def _rows(self, blocks: Sequence[Row], inquiries: Sequence[Inquiry], units: Array) -> list[Row]:
        """Return rows of units (map, text, COLUMNS) of some inquiries."""
        return unit_rows(blocks, units, self._pictures(inquiries), bool(self._truths), self.seed)

    def _result(
        self,
        measured: Sequence[list[Inquiry]],
        units: dict[str, Array],
        lines: Sequence[str],
        localization: Row,
    ) -> Result:
        # In the order in which they were asked for, whichever half they are of.
        inquiries = [inquiry for inquiry in self.inquiries if inquiry.id in units]
        stacked = np.stack([units[inquiry.id] for inquiry in inquiries], axis=1)
        rows = self._rows(self.blocks, inquiries, stacked)
        metric = "auroc" if self._truths else "mass"
        outcome = {
            "localization": localization,
            "chosen_head": self._chosen_head(measured, units),
            "notes": list(self.notes),
        }
        skipped = list(dict.fromkeys(lines))
        return Result(
            command="attend",
            task=None,
            metric=metric,
            n=len(inquiries),
            rows=rows,
            best=best_row(rows, metric),
            config=self.config | outcome,
            versions=versions(),
            n_skipped=len(skipped),
            skipped=skipped[:MAX_REASONS],
        )

    def _chosen_head(
        self, measured: Sequence[list[Inquiry]], units: dict[str, Array]
    ) -> Row | None:
        """Return the head of the highest AUROC on one half of the pictures, scored on the other;
        None where a half has no objects.
        """
        first, second = (
            np.stack([units[inquiry.id] for inquiry in half], axis=1) if half else None
            for half in measured
        )
        if not self._truths or first is None or second is None:
            return None
        areas = scores_of(has_masks=True)(first.sum(axis=1))["auroc"]
        if np.isnan(areas).all() or not second[:, :, COLUMN["masked"]].any():
            return None
        head = int(np.nanargmax(areas))
        (row,) = self._rows([self.blocks[head]], measured[1], second[head : head + 1])
        return row | {"chosen_auroc": float(areas[head])}


@dataclass
class JoinedHeads:
    """The common map of the localization heads, on pictures that they were not chosen on.

    Attributes:
        heads: Indices of the heads.
        masks: What objects are cut out by; None for none.
        inquiries: What was asked of these pictures.
        units: The numbers of their map, (1, COLUMNS) each.
    """

    heads: Sequence[int]
    masks: AttentionMasks | None
    inquiries: list[Inquiry] = field(default_factory=list)
    units: list[Array] = field(default_factory=list)

    def measured(self, look: Look, measure: Callable[[Look, Array], Array]) -> Numbers:
        """Measure the heads' common map of a look, and count the pixels of the object cut out of
        it; nothing where there are no heads.
        """
        if not self.heads:
            return {}
        span = look.sample.base()
        cells = span.token_indices()
        # Heads are weighed alike: their maps are added, not their masks.
        maps = look.mean[self.heads]
        joined = maps.sum(axis=0)
        # Where it lies on the grid it is smoothed, as it is before it is cut to a mask.
        joined[cells] = smoothed_sum(maps[:, cells], span.grid)
        counts = None if self.masks is None else self.masks.measured(look, joined[cells])
        numbers = {"joined": measure(look, joined[None])}
        return numbers if counts is None else numbers | {"counts": counts}

    def add(self, inquiry: Inquiry, numbers: Numbers) -> None:
        """Take in what was measured of a look."""
        if "joined" not in numbers:
            return
        self.inquiries.append(inquiry)
        self.units.append(numbers["joined"])
        if self.masks is not None and "counts" in numbers:
            self.masks.add(inquiry, numbers["counts"])

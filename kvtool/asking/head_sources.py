"""The heads that `kvtool knockout` blocks and `kvtool intervene` changes, as the command line and
Python name them.

One grammar: "agnostic" (by the threshold of their variance), "lowest:N", "best:TASK[:N]",
"localization[:N]", "sinks[:N]" (of kept results), "all", "3:1,4:0" (layer:head), "0-3,5" (in all
layers), a file of JSON lines or "-", or rows from Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from kvtool.asking.caches import WAIT_S
from kvtool.asking.heads import HeadSet, Row, head_set, read_rows
from kvtool.asking.kept_heads import KeptHeads
from kvtool.errors import UsageError
from kvtool.features.variances import judge, kept_variances
from kvtool.layers import parse_numbers
from kvtool.result import Result
from kvtool.store import Run
from kvtool.types import Geometry

HeadRows = Iterable[Mapping[str, Any] | tuple[int, int]]
Heads = Union[str, Path, HeadRows, "HeadSource"]
NAMED_HEADS = re.compile(r"\s*\d+:\d+\s*(,\s*\d+:\d+\s*)*")
ALL = "all"
LOWEST = re.compile(r"lowest:(\d+)")
NUMBERS = re.compile(r"[\d,\s-]*\d[\d,\s-]*")


@dataclass(frozen=True)
class HeadSource:
    """Heads to block, or to change, of a run that is not known yet.

    Args:
        heads: What was asked for.
        threshold: The variance below which keys are input-agnostic; None for the valley between
            their two modes.
        rows: The rows that name heads, with their locations; None where a run's variances, or
            numbers of heads, say which they are.
    """

    heads: str | Path | HeadRows
    threshold: float | None
    rows: list[tuple[str, Row]] | None

    @classmethod
    def parse(cls, heads: Heads, threshold: float | None) -> HeadSource:
        """Read what does not depend on a run. Raises UsageError."""
        if isinstance(heads, HeadSource):
            return heads
        source = cls(heads, threshold, None)
        if threshold is not None and heads != "agnostic":
            raise UsageError(f"--threshold: expected --heads agnostic beside it, found {heads}")
        # Named sets need a run, and are looked up once it is known; files are read now.
        is_named = heads in ("agnostic", ALL) or source.n_lowest is not None
        if is_named or source.kept is not None or source.numbers:
            return source
        return cls(heads, threshold, _rows(heads))

    @property
    def of_variance(self) -> bool:
        """Whether the variances of a run say which heads they are."""
        return self.heads == "agnostic" or self.n_lowest is not None

    @property
    def n_lowest(self) -> int | None:
        """N of lowest:N, else None."""
        match = LOWEST.fullmatch(self.heads) if isinstance(self.heads, str) else None
        return None if match is None else int(match[1])

    @property
    def kept(self) -> KeptHeads | None:
        """The heads of a kept result, where these are asked for."""
        return KeptHeads.parse(self.heads) if isinstance(self.heads, str) else None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The KV heads of a text such as 0-3,5, which stand for those of all layers."""
        heads = self.heads
        if not isinstance(heads, str) or not NUMBERS.fullmatch(heads) or Path(heads).exists():
            return ()
        return parse_numbers(heads, "--heads") or ()

    @property
    def name(self) -> str:
        """What a result says of the source."""
        if self.of_variance or self.kept is not None or self.heads == ALL:
            return str(self.heads)
        if not isinstance(self.heads, str | Path):
            return "given"
        return "standard input" if str(self.heads) == "-" else str(self.heads)

    def of(self, run: Run) -> tuple[HeadSet, list[str]]:
        """Return the heads, and notes. Raises UsageError."""
        # Each way to name heads ends in rows of layer and head, judged input-agnostic or not.
        geometry = run.config.model.geometry
        rows, notes = self.rows, list[str]()
        if self.of_variance:
            rows, notes = self._by_variance(run)
        elif self.kept is not None:
            heads, note = self.kept.of(run)
            rows, notes = _located(heads), [note]
        elif self.heads == ALL:
            rows = _located(geometry.heads)
        elif rows is None:
            rows = _of_all_layers(self.numbers, geometry)
        return head_set(rows, geometry, self.name), notes

    def _by_variance(self, run: Run) -> tuple[list[tuple[str, Row]], list[str]]:
        """Return a run's keys, judged input-agnostic or not, and notes."""
        variances = kept_variances(run, "key", 0, wait_s=WAIT_S)
        # Another threshold judges the stored variances anew: nothing is computed again.
        if self.threshold is not None:
            variances = judge(variances.rows, run, variances.config, self.threshold)
        rows = variances.rows
        # The lowest variances need no threshold: rank alone decides.
        if self.n_lowest is not None:
            rows = _lowest(rows, self.n_lowest, run)
        elif not any(row["input_agnostic"] for row in rows):
            raise UsageError(_no_agnostic_key(variances, run))
        notes = [] if self.n_lowest is not None else variances.config["notes"]
        located = [(f"variance of run {run.name}", row) for row in rows]
        return located, [f"heads agnostic: {note}" for note in notes]


def travelling_heads(arguments: dict[str, Any]) -> None:
    """Make the heads of a call fit to be read by several processes: standard input, and what can be
    gone over once, are read now. Raises UsageError.
    """
    heads = arguments.get("heads")
    if heads is not None and str(heads) == "-":
        arguments["heads"] = HeadSource.parse(heads, arguments.get("threshold"))
    elif heads is not None and not isinstance(heads, str | Path | HeadSource):
        arguments["heads"] = list(heads)


def _no_agnostic_key(variances: Result, run: Run) -> str:
    reason = "; ".join(variances.config["notes"]) or "every key is above the threshold"
    return (
        f"heads agnostic: run {run.name} has no input-agnostic key: {reason}, take --heads "
        "lowest:N, or pipe it to --heads -"
    )


def _lowest(rows: list[Row], count: int, run: Run) -> list[Row]:
    """Return rows in which the keys of the lowest variances are the input-agnostic ones."""
    # Heads whose values are not finite have no variance and no rank.
    ranked = sorted(
        (row for row in rows if row["variance"] is not None), key=lambda row: float(row["variance"])
    )
    if not 0 < count <= len(ranked):
        raise UsageError(
            f"heads lowest:{count}: expected 1 to {len(ranked)} keys, as run {run.name} has "
            f"variances of, found {count}"
        )
    lowest = {(row["layer"], row["kv_head"]) for row in ranked[:count]}
    return [row | {"input_agnostic": (row["layer"], row["kv_head"]) in lowest} for row in ranked]


def _of_all_layers(numbers: Iterable[int], geometry: Geometry) -> list[tuple[str, Row]]:
    """Return the rows of heads of every layer that has them; numbers that no layer has stay, to be
    refused by name.
    """
    # Layers may differ in their number of heads: each has those of the numbers it has.
    return _located(
        (layer, head)
        for layer in geometry.cached_layers
        for head in numbers
        if head < geometry.shape(layer)[0] or head >= geometry.kv_heads
    )


def _located(heads: Iterable[Mapping[str, Any] | tuple[int, int]]) -> list[tuple[str, Row]]:
    rows = (
        row if isinstance(row, Mapping) else dict(zip(("layer", "kv_head"), row, strict=True))
        for row in heads
    )
    return [(f"heads: row {number}", dict(row)) for number, row in enumerate(rows, 1)]


def _rows(heads: str | Path | HeadRows) -> list[tuple[str, Row]]:
    """Return the rows that name heads, and the location of each."""
    if isinstance(heads, str) and NAMED_HEADS.fullmatch(heads) and not Path(heads).exists():
        pairs = (entry.split(":") for entry in heads.split(","))
        return _located((int(layer), int(kv_head)) for layer, kv_head in pairs)
    return read_rows(str(heads)) if isinstance(heads, str | Path) else _located(heads)

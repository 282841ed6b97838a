"""A probe's blocks shared layer by layer: whoever claims a layer scores it and keeps its rows until
the whole result is kept.

Layers of a few megabytes cost less to score than to claim: they stay together, under one claim.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from kvtool import schema
from kvtool.result import Result, Row, result_key
from kvtool.store import Store
from kvtool.store.shares import Share, chunk_name
from kvtool.tasks.base import BlockPlan
from kvtool.types import Kind

LEAST_BYTES = 2**24
"""Stored bytes of a plan's largest layer from which on its layers are shared."""

Rows = tuple[list[Row], list[Row]]
"""Rows of blocks, and those of the two halves of the units, see kvtool.tasks.walk."""
LayerOf = tuple[Kind, int, tuple[int, ...]]
"""A kind, a layer, and the heads of it that are scored together."""


@dataclass(frozen=True)
class LayerRecord:
    """The record kept of a layer: its rows as JSON text, in which numbers may be NaN."""

    rows: str
    halves: str

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> LayerRecord:
        """Read a stored record. Raises CorruptError."""
        return schema.read(cls, record, "scores of a layer")


def _text(rows: list[Row]) -> str:
    """Return rows as JSON, NumPy's numbers as Python's."""
    return json.dumps(rows, default=lambda value: value.item())


@dataclass
class LayerShares:
    """The layers of a plan, shared with other processes.

    Attributes:
        store: Where their rows are kept.
        plan: All blocks.
        task: The name of the task.
        key: The key of the whole result.
        share: What this process does of them.
        progress: Called with (blocks done, note).
    """

    store: Store
    plan: BlockPlan
    task: str
    key: str
    share: Share
    progress: Callable[..., None] | None
    _rows: dict[LayerOf, Rows] = field(default_factory=dict)

    def layers(self) -> Iterator[LayerOf]:
        """Yield the layers in the order of the plan."""
        for kind, layers, heads in self.plan.blocks:
            for layer in layers:
                yield kind, layer, heads

    def are_worth_it(self) -> bool:
        """Return whether a layer costs more to score than to claim."""
        layers = list(self.layers())
        return len(layers) > 1 and max(map(self._bytes, layers)) >= LEAST_BYTES

    def _bytes(self, layer: LayerOf) -> int:
        """Return about how many bytes of a layer are read."""
        kind, number, heads = layer
        run = self.plan.run
        _, dim = run.config.heads_and_dim(kind, number)
        return 2 * dim * len(heads) * sum(sample.count_tokens(kind) for sample in run.samples)

    def do(self, score: Callable[[BlockPlan], Rows]) -> None:
        """Score all layers that nobody else does, where the whole is not kept and that is worth it.
        Raises BusyError; see Share.each.
        """
        if self.are_worth_it() and not self._is_kept():
            self.share.each(self.layers(), lambda layer: self._do_one(layer, score), "layers")

    def _is_kept(self) -> bool:
        """Return whether the whole result is kept."""
        return self.store.kept(self.key, Result.from_json) is not None

    def _do_one(self, layer: LayerOf, score: Callable[[BlockPlan], Rows]) -> None:
        """Score a layer, or read what another process kept of it."""
        kind, number, heads = layer
        # A layer's key holds that of the whole: other settings never find it.
        key = result_key(["layer", self.key, kind, number, heads])
        plan = replace(self.plan, blocks=((kind, (number,), heads),))

        def stored() -> Rows | None:
            """Return what is kept; nothing to do where the whole is."""
            record = self.store.kept(key, LayerRecord.from_json)
            # Layers' rows are dropped once the whole result is kept: nothing is left to do then.
            if record is not None:
                return json.loads(record.rows), json.loads(record.halves)
            return ([], []) if self._is_kept() else None

        def make() -> Rows:
            """Score the layer and keep its rows."""
            rows, halves = score(plan)
            labels = {"kind": "layer", "run": self.plan.run.name, "task": self.task}
            texts = {"rows": _text(rows), "halves": _text(halves)}
            self.store.keep(key, labels | texts)
            return rows, halves

        name = chunk_name("layer", f"{self.task}-{kind}-{number}", key)
        self._rows[layer] = self.share.once(self.plan.run, name, stored, make)
        if self.progress is not None:
            self.progress(len(heads), f"{kind} layer {number}")

    def joined(self) -> Rows | None:
        """Return the rows of all layers in the order of the plan; None where they were not scored
        one by one.
        """
        if not self._rows:
            return None
        parts = [self._rows[layer] for layer in self.layers()]
        return [row for rows, _ in parts for row in rows], [row for _, hs in parts for row in hs]

    def drop(self) -> None:
        """Remove what is kept of the layers, once the whole is kept."""
        for kind, number, heads in self.layers() if self.are_worth_it() else ():
            self.store.drop(result_key(["layer", self.key, kind, number, heads]))

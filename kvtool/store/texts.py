"""Vectors of class names and expressions that a run holds beside its images.

RUN/text/<start>/ is written once, like a part. It records the template that its texts were put
into, and the version of how they are run: vectors of another version are never read, so that the
next extraction writes them anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kvtool.errors import UsageError
from kvtool.geometry import LayerArray, array_kind
from kvtool.store.encoding import STORED_DTYPE, Bits
from kvtool.store.manifest import RunConfig
from kvtool.store.parts import Part
from kvtool.store.run_arrays import TEXT_MEAN
from kvtool.store.shards import ReadRequest, Rows, read_all
from kvtool.text_templates import DEFAULT

VERSION = 2
"""1: a text alone, from position 0 on; 2: in the user's turn of the chat template."""


def text_arrays(config: RunConfig) -> tuple[str, ...]:
    """Return the arrays of vectors that texts of a run have.

    Tokens of `value` are compared with `value`, those of `projected` with `projected` or, of a
    decoder, with the mean of a text's input embeddings. `vision` alone has no text side.
    """
    return tuple(array.name for kind in _text_kinds(config) for array in config.arrays_of(kind))


def _text_kinds(config: RunConfig) -> list[str]:
    """Return the kinds of these arrays: value, projected and projected_mean."""
    kinds: list[str] = [kind for kind in ("value", "projected") if kind in config.kinds]
    return [*kinds, TEXT_MEAN] if "projected" in kinds and config.layers else kinds


@dataclass(frozen=True)
class TextSet:
    """The texts of a run in one template, as of when they were asked for.

    parts: those of this template and of the present version, in the order of their names.
    """

    config: RunConfig
    template: str
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, config: RunConfig, parts: Sequence[Part], template: str = DEFAULT) -> TextSet:
        """Return the texts of a template among all that a run holds."""
        # Texts that were run in another way have other vectors: they count as not stored.
        template_parts = [
            part
            for part in parts
            if part.attributes.get("version", 1) == VERSION
            and part.attributes.get("template", DEFAULT) == template
        ]
        return cls(config, template, tuple(template_parts))

    def names(self, array: str = "value") -> list[str]:
        """Return the texts whose vectors of an array are stored."""
        return [name for part in self._with(array) for name in part.attributes["names"]]

    @property
    def token_counts(self) -> dict[str, int]:
        """How many tokens each text has, where that is known."""
        return {
            name: count
            for part in self.parts
            for name, count in zip(
                part.attributes["names"], part.attributes.get("token_counts", []), strict=False
            )
        }

    def lacks(self, names: Sequence[str]) -> bool:
        """Return whether a vector of these texts is not stored."""
        return any(not set(names) <= set(self.names(array)) for array in text_arrays(self.config))

    def values(self, layer: int, head: int, raw: bool = False, array: str = "value") -> Bits:
        """Return the (text, dim) vectors of names(array), of a layer and head of that kind.

        Raises UsageError where the layer or head is not stored.
        """
        heads, dim = self.config.heads_and_dim(array, layer)
        if not 0 <= head < heads:
            raise UsageError(
                f"run {self.config.name}: no texts for layer {layer}, kv_head {head}: "
                "see its layers and heads"
            )
        requests = []
        start = 0
        stored = self.config.array_at(array, layer)
        position = stored.layers.index(layer)
        # Each part of texts goes behind the one before it.
        for part in self._with(array):
            count = len(part.attributes["names"])
            rows = [Rows(0, count, start)]
            requests.append(ReadRequest(part.arrays[stored.name], position, [head], rows))
            start += count
        dtype = STORED_DTYPE[self.config.model.dtype] if raw else np.dtype(np.float32)
        values = np.empty((start, dim), dtype)
        read_all(requests, values[None])
        return values

    def vectors_for(self, config: RunConfig, names: Sequence[str]) -> dict[str, Bits] | None:
        """Return the vectors of these texts that a run of `config` has, as stored: array -> (text,
        layer, head, dim); None where one of them is not stored.
        """
        vectors = {}
        for kind in _text_kinds(config):
            # Each kind must be there with all texts and layers: part of the vectors serves nobody.
            layers = set(config.stored_layers(kind))
            if not set(names) <= set(self.names(kind)) or not layers <= set(
                self.config.stored_layers(kind)
            ):
                return None
            for array in config.arrays_of(kind):
                vectors[array.name] = self._array(names, kind, array)
        return vectors

    def _array(self, names: Sequence[str], kind: str, array: LayerArray) -> Bits:
        """Return the (text, layer, head, dim) of an array that another run has."""
        position_of = {name: position for position, name in enumerate(self.names(kind))}
        rows = [position_of[name] for name in names]
        blocks = [
            self.values(layer, head, raw=True, array=kind)[rows]
            for layer in array.layers
            for head in range(array.heads)
        ]
        # Blocks come by layer, then head; the text's axis is put in front, as writers take it.
        stacked = np.array(blocks).reshape(len(array.layers), array.heads, len(rows), -1)
        return np.moveaxis(stacked, 2, 0)

    def _with(self, array: str) -> list[Part]:
        """The parts that hold vectors of an array, or of a kind."""
        return [
            part for part in self.parts if any(array in (n, array_kind(n)) for n in part.arrays)
        ]


def text_attributes(
    names: Sequence[str], template: str, token_counts: Mapping[str, int]
) -> dict[str, object]:
    """Return what a part of texts records of them."""
    record: dict[str, object] = {"names": list(names), "version": VERSION, "template": template}
    if token_counts:
        record["token_counts"] = [token_counts[name] for name in names]
    return record

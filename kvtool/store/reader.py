"""Reading what a run's parts hold: one block over all images, a stream over layers and parts, or
one image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvtool.errors import CorruptError, UsageError
from kvtool.geometry import LayerArray
from kvtool.store.arrays import StoredArray
from kvtool.store.blocks import BlockValues, PartSlice
from kvtool.store.encoding import STORED_DTYPE, Bits
from kvtool.store.layout import REPAIR
from kvtool.store.locations import Location
from kvtool.store.manifest import RunConfig
from kvtool.store.parts import Part
from kvtool.store.run_arrays import CACHE_KINDS, TEXT_KINDS
from kvtool.store.shards import ReadRequest, Rows, open_ahead, read_all
from kvtool.store.tokens import ALL_TOKENS, TokenChoice, consecutive
from kvtool.types import Kind, Sample


class ReadPlan(NamedTuple):
    """Images in the order of the output, their offsets there, and the rows to take of each part's
    array.
    """

    samples: tuple[Sample, ...]
    offsets: NDArray[np.int64]
    rows: list[tuple[Part, list[Rows]]]


class PartsReader:
    """Reads a fixed set of committed parts of a run."""

    def __init__(self, config: RunConfig, parts: Sequence[Part]) -> None:
        self.config = config
        self.parts = sorted(parts, key=lambda part: (part.indices[0], part.name))
        self._plans: dict[str, ReadPlan] = {}
        self._checked: set[tuple[str, str]] = set()

    @cached_property
    def places(self) -> dict[str, Location]:
        """Place of each image by its id, by dataset index; where parts overlap, the first one's."""
        by_index: dict[int, tuple[str, Location]] = {}
        for part in self.parts:
            for position, sample in enumerate(part.samples):
                by_index.setdefault(sample.index, (sample.id, Location(part, position)))
        return dict(by_index[index] for index in sorted(by_index))

    @cached_property
    def frame_locations(self) -> dict[str, Location]:
        """Place of each frame of a video by its id, in order; none of pictures."""
        return {
            frame.id: entry._replace(frame=index)
            for entry in self.places.values()
            for index, frame in enumerate(entry.part.samples[entry.position].frames)
        }

    @cached_property
    def views(self) -> list[Sample]:
        """The pictures that the model was given: images, or the frames of videos."""
        return [entry.sample for entry in (self.frame_locations or self.places).values()]

    def sample(self, image: str) -> Sample:
        """Return what is recorded of an image. Raises UsageError where it is not stored."""
        return self._place(image).sample

    def read(
        self,
        kind: Kind,
        layer: int | Sequence[int],
        kv_head: int | Sequence[int],
        ids: Sequence[str] | None,
        raw: bool,
        choice: TokenChoice = ALL_TOKENS,
    ) -> BlockValues:
        """Read one block or several, see Run.read."""
        layers = list(layer) if isinstance(layer, Iterable) else [layer]
        heads = list(kv_head) if isinstance(kv_head, Iterable) else [kv_head]
        arrays = [self._array_at(kind, number) for number in layers]
        for array in dict.fromkeys(arrays):
            self._check_heads(kind, array, heads)
        dim = self._one_dim(kind, arrays)
        plan = self._plan(kind, ids, choice)
        values = np.empty((len(layers), len(heads), int(plan.offsets[-1]), dim), self._dtype(raw))
        # One layer is one file of each part: the parts of a layer are read side by side.
        for position, array in enumerate(arrays if heads else ()):
            stored_layer = array.layers.index(layers[position])
            requests = [
                ReadRequest(self._array(part, array.name), stored_layer, heads, rows)
                for part, rows in plan.rows
            ]
            read_all(requests, values[position])
        # A single layer or head has no axis of its own, as in NumPy's indexing.
        if not isinstance(kv_head, Iterable):
            values = values[:, 0]
        if not isinstance(layer, Iterable):
            values = values[0]
        return BlockValues(values, plan.samples, plan.offsets)

    def stream(
        self, kind: Kind, layers: Sequence[int] | None, ids: Sequence[str] | None, raw: bool
    ) -> Iterator[tuple[int, PartSlice]]:
        """Yield (layer, slice) with all heads, see StoredRun.stream."""
        numbers = (
            self.config.stored_layers(self._stored_kind(kind)) if layers is None else tuple(layers)
        )
        arrays = [self._array_at(kind, layer) for layer in numbers]
        slices = [self._plan_part(kind, entries) for entries in self._by_part(ids)]
        # A generator, so that files are opened only shortly before they are read.
        requests = (
            ReadRequest(
                self._array(part, array.name),
                array.layers.index(layer),
                range(array.heads),
                rows,
                tag=(layer, array, plan),
            )
            for layer, array in zip(numbers, arrays, strict=True)
            for plan in slices
            for part, rows in plan.rows
        )
        for shard in open_ahead(requests):
            layer, array, plan = shard.request.tag
            values = np.empty((array.heads, int(plan.offsets[-1]), array.dim), self._dtype(raw))
            shard.read_into(values)
            yield layer, PartSlice(plan.samples, plan.offsets, values)

    def read_image(self, image: str, kinds: Sequence[Kind] | None, raw: bool) -> dict[str, Bits]:
        """Read all arrays of one image, see StoredRun.read_image."""
        part, position, frame = self._place(image)
        if frame is not None:
            raise UsageError(
                f"run {self.config.name}: {image}: expected an image or a whole video, found a "
                "frame, before which the others stand; read its tokens with read"
            )
        names: list[str] = [self._stored_kind(kind) for kind in kinds or self.config.kinds]
        # The text before the image comes with the kind whose geometry it shares.
        names += [name for name, kind in TEXT_KINDS.items() if kind in names]
        arrays = [array for name in names for array in self.config.arrays_of(name)]
        return {array.name: self._read_array(part, position, array, raw) for array in arrays}

    def _read_array(self, part: Part, position: int, layout: LayerArray, raw: bool) -> Bits:
        start, stop = part.offsets(layout.name)[position : position + 2]
        shape = (len(layout.layers), layout.heads, stop - start, layout.dim)
        out = np.empty(shape, self._dtype(raw))
        if out.size:
            array, rows = self._array(part, layout.name), [Rows(start, stop, 0)]
            requests = (
                ReadRequest(array, layer, range(layout.heads), rows, tag=layer)
                for layer in range(len(out))
            )
            for shard in open_ahead(requests):
                shard.read_into(out[shard.request.tag])
        return out

    def _plan(
        self, kind: Kind, ids: Sequence[str] | None, choice: TokenChoice = ALL_TOKENS
    ) -> ReadPlan:
        """Return where each wanted image goes.

        The plan of all tokens of all images is remembered, since every block of a kind shares it.
        """
        is_whole = ids is None and choice.is_all
        if is_whole and kind in self._plans:
            return self._plans[kind]
        samples: list[Sample] = []
        ends = [0]
        rows: defaultdict[str, list[Rows]] = defaultdict(list)
        parts: dict[str, Part] = {}
        for image in self.places if ids is None else ids:
            entry = self._place(image)
            part, sample = entry.part, entry.sample
            first, last = entry.rows(kind, self._offsets_of(kind))
            samples.append(sample)
            parts[part.name] = part
            end = ends[-1]
            all_tokens = [(0, last - first)]
            stretches = all_tokens if choice.is_all else consecutive(choice.indices(sample, kind))
            # Rows of the part's array, and where they go in the output.
            for start, stop in stretches:
                rows[part.name].append(Rows(first + start, first + stop, end))
                end += stop - start
            ends.append(end)
        plan = ReadPlan(
            tuple(samples),
            np.array(ends, np.int64),
            # Rows by their place in the part, so that neighbors in the file are read together.
            [(parts[name], sorted(rows[name])) for name in rows],
        )
        if is_whole:
            self._plans[kind] = plan
        return plan

    def _plan_part(self, kind: Kind, entries: Sequence[Location]) -> ReadPlan:
        ends, rows = [0], []
        for entry in entries:
            start, stop = entry.rows(kind, self._offsets_of(kind))
            rows.append(Rows(start, stop, ends[-1]))
            ends.append(ends[-1] + stop - start)
        samples = tuple(entry.sample for entry in entries)
        return ReadPlan(samples, np.array(ends, np.int64), [(entries[0].part, rows)])

    def _by_part(self, ids: Sequence[str] | None) -> list[list[Location]]:
        """Wanted locations in each part, in the parts' order."""
        # A set, since streams give each image once and in the parts' order.
        positions: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        for image in self.places if ids is None else ids:
            part, position, frame = self._place(image)
            positions[part.name].add((position, -1 if frame is None else frame))
        return [
            [
                Location(part, position, None if frame < 0 else frame)
                for position, frame in sorted(positions[part.name])
            ]
            for part in self.parts
            if part.name in positions
        ]

    def _place(self, image: str) -> Location:
        entry = self.places.get(image) or self.frame_locations.get(image)
        if entry is None:
            raise UsageError(
                f"run {self.config.name}: no image {image!r} among the {len(self.places)} stored"
            )
        return entry

    def _array(self, part: Part, name: str) -> StoredArray:
        """Return the part's array, its files' sizes compared with the record on first use."""
        array = part.arrays.get(name)
        if array is None:
            raise CorruptError(
                f"{part.location}: expected an array {name}, found {', '.join(part.arrays)}: "
                f"{REPAIR}"
            )
        # The sizes are looked at once: a lost file must not read as NaN.
        if (part.name, name) not in self._checked:
            array.check_sizes()
            self._checked.add((part.name, name))
        return array

    def _stored_kind(self, kind: Kind) -> Kind:
        if kind not in self.config.kinds:
            stored = ", ".join(self.config.kinds)
            raise UsageError(
                f"run {self.config.name}: {kind} is not stored, only {stored}: extract it with "
                "--kinds"
            )
        return kind

    def _offsets_of(self, kind: str) -> str:
        """Return the array whose offsets are those of a kind; arrays of one kind have the same."""
        return self.config.arrays_of(kind)[0].name

    def _array_at(self, kind: Kind, layer: int) -> LayerArray:
        """Return the array that holds a layer. Raises UsageError where none does."""
        for array in self.config.arrays_of(self._stored_kind(kind)):
            if layer in array.layers:
                return array
        stored = ", ".join(map(str, self.config.stored_layers(kind)))
        geometry = self.config.model.geometry
        if kind in CACHE_KINDS and layer in self.config.layers:
            raise UsageError(
                f"run {self.config.name}: {geometry.without_cache(layer)}: expected one of {stored}"
            )
        raise UsageError(
            f"run {self.config.name}: layer {layer} of {kind} is not stored, only {stored}"
        )

    def _check_heads(self, kind: Kind, array: LayerArray, heads: Sequence[int]) -> None:
        """Raise UsageError for a head that an array's layers lack."""
        for head in heads:
            if not 0 <= head < array.heads:
                layer_note = "" if array.name == kind else f" in layer {array.layers[0]}"
                raise UsageError(
                    f"run {self.config.name}: {kind} has no kv_head {head}{layer_note}: "
                    f"expected 0 to {array.heads - 1}"
                )

    def _one_dim(self, kind: Kind, arrays: Sequence[LayerArray]) -> int:
        """Return the dim of several layers' vectors. Raises UsageError where it differs."""
        layer_of = {array.dim: array.layers[0] for array in arrays}
        if len(layer_of) > 1:
            dims = ", ".join(f"{dim} (layer {layer})" for dim, layer in layer_of.items())
            raise UsageError(
                f"run {self.config.name}: {kind}: expected layers whose vectors have one number of "
                f"dimensions, found {dims}; read them apart"
            )
        return next(iter(layer_of), self.config.heads_and_dim(kind)[1])

    def _dtype(self, raw: bool) -> np.dtype[Any]:
        return STORED_DTYPE[self.config.model.dtype] if raw else np.dtype(np.float32)

"""A committed part, as its attributes say; they are checked against the settings of its run when it
is opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool import schema
from kvtool.errors import CorruptError
from kvtool.store import layout
from kvtool.store.arrays import ArrayRecord, StoredArray
from kvtool.store.manifest import RunConfig
from kvtool.store.run_arrays import TEXT_MEAN
from kvtool.store.sample_records import samples_from_json
from kvtool.types import Frame, Sample


@dataclass(frozen=True, slots=True)
class Picture:
    """Who an image of a run is: its id, its index in the roster, what its picture was, and the text
    before it.
    """

    id: str
    index: int
    digest: str
    stamp: tuple[int, ...]
    prefix: str
    frames: tuple[Frame, ...] = ()

    @property
    def digests(self) -> dict[str, str]:
        """Digest of the picture by its id; of a video those of its frames, or of its file."""
        if not self.frames:
            return {self.id: self.digest}
        return {frame.id: frame.digest or self.digest for frame in self.frames}


@dataclass(frozen=True)
class Part:
    """A committed part: its folder and its attributes, samples parsed on first use."""

    run: str
    name: str
    folder: Path
    attributes: dict[str, Any]

    @property
    def location(self) -> str:
        """What leads errors: the run and the part."""
        return f"run {self.run}, part {self.name}"

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The images of the part, by rising index. Raises CorruptError."""
        return samples_from_json(self.attributes["samples"], self.location)

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """Dataset index of each image."""
        record = self.attributes["samples"]
        shared = record["shared"].get("index")
        return tuple(entry.get("index", shared) for entry in record["each"])

    @cached_property
    def pictures(self) -> tuple[Picture, ...]:
        """Who each image is, without the rest of its sample: cheap for many parts."""
        record = self.attributes["samples"]
        shared = {"digest": "", "stamp": [], **record["shared"]}
        label = f"{self.location}, image"
        return tuple(schema.read(Picture, {**shared, **entry}, label) for entry in record["each"])

    @cached_property
    def arrays(self) -> dict[str, StoredArray]:
        """The arrays of the part, by name. Raises CorruptError."""
        return stored_arrays(self.folder, self.attributes, self.location)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays on disk."""
        return sum(sum(array.shard_nbytes) for array in self.arrays.values())

    def lacking(self) -> str | None:
        """Return the first of its arrays' files that is missing or has another size, in words; else
        None.

        Raises OSError.
        """
        return next(
            (what for array in self.arrays.values() if (what := array.lacking()) is not None), None
        )

    def nonfinite(self, array: str) -> list[list[int]]:
        """Return [layer position, head, count] of an array's values that are not finite."""
        counts: list[list[int]] = self.attributes.get("nonfinite", {}).get(array, [])
        return counts

    def offsets(self, array: str) -> list[int]:
        """Return the (n + 1) positions in an array where each image begins, and where the last
        ends.
        """
        offsets: list[int] = self.attributes["offsets"][array]
        return offsets


def pictures_by_index(parts: Iterable[Part]) -> list[Picture]:
    """Return who the images of some parts are, by index; where parts overlap, the first one's."""
    by_index: dict[int, Picture] = {}
    for part in parts:
        for picture in part.pictures:
            by_index.setdefault(picture.index, picture)
    return [by_index[index] for index in sorted(by_index)]


@dataclass(frozen=True)
class SampleRecords:
    """Of a part's images: what all of them share, and the rest of each."""

    shared: dict[str, Any]
    images: list[dict[str, Any]] = field(metadata=schema.member("each"))


def check_part(part: Part, config: RunConfig) -> None:
    """Raise CorruptError where the attributes of a part cannot be those of a part of a run of
    these settings.
    """
    label = part.location
    attributes = part.attributes
    # Samples are not parsed in full, which is slow: counts and indices suffice to open a part.
    records = schema.read(SampleRecords, attributes.get("samples"), f"{label}: samples").images
    counts = schema.read(dict[str, tuple[int, ...]], attributes.get("offsets"), f"{label}: offsets")
    schema.read(tuple[int, ...], list(part.indices), f"{label}: index")
    _check_nonfinite(part, config)
    # Shapes of arrays follow from the settings and from the offsets' last numbers.
    check_arrays(
        part.arrays, config, label, {name: ends[-1] for name, ends in counts.items() if ends}
    )
    # The offsets must be those of as many images, rising from 0.
    for name in config.array_names():
        ends = counts.get(name, ())
        if (
            len(ends) != len(records) + 1
            or ends[0] != 0
            or list(ends) != sorted(ends)
            or not records
        ):
            raise CorruptError(
                f"{label}, array {name}: expected offsets of {len(records)} images, found "
                f"{len(ends)}: {layout.REPAIR}"
            )


def check_text(part: Part, config: RunConfig) -> None:
    """As check_part, of a part of texts."""
    texts = schema.read(list[str], part.attributes.get("names"), f"{part.location}: names")
    _check_nonfinite(part, config)
    arrays = [
        array for kind in ("value", "projected", TEXT_MEAN) for array in config.arrays_of(kind)
    ]
    # One vector a text, in each array of texts.
    tokens = dict.fromkeys((array.name for array in arrays), len(texts))
    check_arrays(part.arrays, config, part.location, tokens)
    if not part.arrays:
        raise CorruptError(f"{part.location}: expected an array value, found none: {layout.REPAIR}")
    counts = schema.read(
        list[int], part.attributes.get("token_counts", []), f"{part.location}: token_counts"
    )
    if len(counts) not in (0, len(texts)):
        raise CorruptError(
            f"{part.location}: token_counts: expected {len(texts)}, found {len(counts)}: "
            f"{layout.REPAIR}"
        )


def _check_nonfinite(part: Part, config: RunConfig) -> None:
    """Raise CorruptError where the record of values that are not finite names blocks that the run
    has not.
    """
    records = schema.read(
        dict[str, list[tuple[int, int, int]]],
        part.attributes.get("nonfinite", {}),
        f"{part.location}: nonfinite",
    )
    for name, blocks in records.items():
        layers, heads = len(config.stored_layers(name)), config.heads_and_dim(name)[0]
        if any(not (0 <= layer < layers and 0 <= head < heads) for layer, head, _ in blocks):
            raise CorruptError(
                f"{part.location}: nonfinite: expected blocks of the run, found {blocks}: "
                f"{layout.REPAIR}"
            )


def check_arrays(
    arrays: dict[str, StoredArray], config: RunConfig, location: str, tokens: dict[str, int]
) -> None:
    """Raise CorruptError where an array is none of the run's, or has another shape than so many
    tokens make.
    """
    for name, array in arrays.items():
        if name not in tokens:
            raise CorruptError(
                f"{location}: expected arrays {', '.join(tokens)}, found {name!r}: {layout.REPAIR}"
            )
        heads, dim = config.heads_and_dim(name)
        expected = (len(config.stored_layers(name)), heads, tokens[name], dim)
        actual = (array.spec.shape, array.spec.dtype)
        if actual != (expected, config.model.dtype):
            raise CorruptError(
                f"{location}, array {name}: expected {config.model.dtype} of shape {expected}, "
                f"found {actual[1]} of "
                f"shape {actual[0]}: {layout.REPAIR}"
            )


def stored_arrays(
    folder: Path, attributes: dict[str, Any], location: str
) -> dict[str, StoredArray]:
    """Return the arrays that a group's attributes list, by name. Raises CorruptError."""
    records = schema.read(dict[str, ArrayRecord], attributes.get("arrays"), f"{location}: arrays")
    arrays = {}
    for name, record in records.items():
        # Checked before an array is made of it: memory is asked for by what it says.
        if problem := record.problem():
            raise CorruptError(f"{location}, array {name}: {problem}: {layout.REPAIR}")
        arrays[name] = StoredArray(
            folder=folder / name,
            spec=record.spec,
            shard_nbytes=record.shard_nbytes,
            shard_crc32c=record.shard_crc32c,
            metadata_crc32c=record.metadata_crc32c,
            location=f"{location}, array {name}",
        )
    return arrays

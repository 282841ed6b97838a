"""A run: what was committed, read by (kind, layer, kv_head) or by image, and the way to commit more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.digests import digest_texts
from kvtool.errors import CorruptError, StoreError, UsageError
from kvtool.store import layout, locks, summary, writer
from kvtool.store.encoding import STORED_DTYPE, Bits
from kvtool.store.files import fsync_folder, member_names, os_errors, read_group, remove_committed
from kvtool.store.manifest import RunConfig, token_offsets
from kvtool.store.nonfinite import Place
from kvtool.store.parts import Part, Picture, check_part, check_text
from kvtool.store.reader import BlockValues, PartSlice, PartsReader
from kvtool.store.roster import Roster, extend_roster, read_roster
from kvtool.store.shards import ReadRequest, Rows, read_all
from kvtool.store.writer import Pieces
from kvtool.types import Kind, Sample


@dataclass
class Run:
    """A run of a store. It reads the images that were committed when it first looked, so that all blocks have the same;
    refresh() looks again. Texts, covered_indices and parts are as of now."""

    store: Path
    config: RunConfig
    _known: dict[str, Part] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def folder(self) -> Path:
        return layout.run_path(self.store, self.name)

    @property
    def samples(self) -> list[Sample]:
        """All committed images, by dataset index."""
        return [part.samples[position] for part, position in self._reader.places.values()]

    @property
    def ids(self) -> list[str]:
        return list(self._reader.places)

    @property
    def roster(self) -> Roster:
        """The images of the run in order, as of now. Raises CorruptError."""
        return read_roster(self.folder, f"run {self.name}")

    @property
    def place(self) -> str | None:
        """Where the data set lay when it was last extracted from; None for a list of paths."""
        roster = self.roster
        return roster.place if roster.n_segments else self.config.dataset_path

    def enroll(self, ids: Sequence[str], place: str | None, gone: Collection[int] = ()) -> Roster:
        """Put images that are new at the end of the roster, and note those gone and the data set's place."""
        return extend_roster(self.store, self.folder, f"run {self.name}", ids, place, gone)

    @property
    def pictures(self) -> list[Picture]:
        """Who the images that the run reads are, by index; no array and no geometry is read."""
        by_index: dict[int, Picture] = {}
        for part in self._reader.parts:
            for picture in part.pictures:
                by_index.setdefault(picture.index, picture)
        return [by_index[index] for index in sorted(by_index)]

    def images_hash(self, ids: Collection[str] | None = None) -> str:
        """Digest of which pictures the run holds, or of some of them: ids and what the pictures were."""
        chosen = None if ids is None else set(ids)
        entries = [(p.id, p.digest) for p in self.pictures if chosen is None or p.id in chosen]
        return digest_texts(text for entry in sorted(entries) for text in entry)

    def refresh(self) -> None:
        """Look again for parts committed since."""
        self.__dict__.pop("_reader", None)

    def read(
        self,
        kind: Kind,
        layer: int,
        kv_head: int = 0,
        ids: Sequence[str] | None = None,
        raw: bool = False,
    ) -> BlockValues:
        """One block over all images, or over `ids` in their order: values (token, dim), samples, offsets (n + 1).

        layer: the model's layer number. raw: values as stored (bfloat16 as uint16 bits), else float32. Raises
        UsageError where the block or an image is not stored, CorruptError where bytes are not those written.
        """
        return self._reader.read(kind, layer, kv_head, ids, raw)

    def stream(
        self,
        kind: Kind,
        layers: Sequence[int] | None = None,
        ids: Sequence[str] | None = None,
        raw: bool = False,
    ) -> Iterator[tuple[int, PartSlice]]:
        """(layer, slice) with all heads, layer by layer, part by part, images in the parts' order. Errors as read's."""
        return self._reader.stream(kind, layers, ids, raw)

    def read_image(
        self, image: str, kinds: Sequence[Kind] | None = None, raw: bool = False
    ) -> dict[str, Bits]:
        """All of one image: kind -> (layer, head, token, dim); with key and value come text_key and text_value, the
        prompt's tokens before the image. `kinds`: all stored ones by default. Errors as read's.
        """
        return self._reader.read_image(image, kinds, raw)

    @property
    def text_names(self) -> list[str]:
        """Class names and expressions whose vectors are stored."""
        return [name for part in self._scan("text") for name in part.attributes["names"]]

    def text_values(self, layer: int, kv_head: int, raw: bool = False) -> Bits:
        """(text, dim) value vectors of text_names. Raises UsageError where the layer or head is not stored."""
        heads, dim = self.config.heads_and_dim("value")
        if layer not in self.config.layers or not 0 <= kv_head < heads:
            raise UsageError(
                f"run {self.name}: no texts for layer {layer}, kv_head {kv_head}: see its layers and heads"
            )
        dtype = STORED_DTYPE[self.config.model.dtype] if raw else np.dtype(np.float32)
        stored, head, start = self.config.layers.index(layer), range(kv_head, kv_head + 1), 0
        requests = []
        for part in self._scan("text"):
            count = len(part.attributes["names"])
            requests.append(
                ReadRequest(part.arrays["value"], stored, head, [Rows(0, count, start)])
            )
            start += count
        values = np.empty((start, dim), dtype)
        read_all(requests, values[None])
        return values

    def covered_indices(self, within: range | None = None) -> set[int]:
        """Dataset indices of the images in committed parts, as of now; of a range of them at a part's price."""
        covered = {index for part in self._scan("parts", within) for index in part.indices}
        return covered if within is None else covered & set(within)

    def parts(self) -> list[Part]:
        """Committed parts, as of now."""
        return self._scan("parts")

    def check_files(self) -> None:
        """Raises CorruptError where a file of a committed part or text is missing or has another size than was
        written: a look at every folder, which reads no file."""
        parts = [*self._scan("parts"), *self._scan("text")]
        with os_errors(f"run {self.name}: its parts cannot be looked at"):
            whats = [what for part in parts if (what := part.lacking()) and part.folder.exists()]
        if whats:
            others = f" ({len(whats)} of {len(parts)} parts are damaged)" if len(whats) > 1 else ""
            raise CorruptError(f"{whats[0]}{others}: {layout.REPAIR}")

    def nonfinite(self, within: range | None = None) -> dict[Place, int]:
        """How many values are NaN or infinite, by (array, layer, head) where there are any, as of now.

        array: a kind, text_key, text_value, or "text" for the vectors of text_names. within: only parts that may hold
        images of a range of dataset indices, and no texts. Reads no array: parts record it when they are written.
        """
        counts: Counter[Place] = Counter()
        names = self.config.array_names()
        parts = [(name, name, part) for part in self._scan("parts", within) for name in names]
        texts = (
            [] if within is not None else [("value", "text", part) for part in self._scan("text")]
        )
        for array, place, part in [*parts, *texts]:
            for position, head, count in part.nonfinite(array):
                counts[place, self.config.stored_layers(place)[position], head] += count
        return dict(counts)

    def claimed(self, name: str) -> bool:
        """Whether someone holds the claim on `name` now."""
        path = self._claim_path(name)
        return path.exists() and not locks.is_stale(path)

    def holders(self) -> dict[str, locks.Owner | None]:
        """Who works on what now, by the claim's name; None where the owner is not known."""
        with os_errors(f"run {self.name}: its claims cannot be listed"):
            return locks.live_claims(self.folder / "locks")

    def claim(self, name: str, wait_s: float = 0.0) -> AbstractContextManager[locks.Owner]:
        """Context in which this process alone works on `name` (a part's, or that of another piece of work over the
        run). Raises BusyError, naming the owner."""
        what = name if layout.part_range(name) is None else f"part {name}"
        return locks.claim(self.store, self._claim_path(name), f"{what} of run {self.name}", wait_s)

    def commit_part(
        self,
        name: str,
        samples: Sequence[Sample],
        arrays: Mapping[str, Pieces],
        text: Mapping[str, Pieces] | None = None,
    ) -> int:
        """Commit images and return the bytes written; images that another writer committed meanwhile are dropped.

        name: layout.part_name(first index, last index + 1). samples: by rising index. arrays: kind -> (layer, head,
        token, dim) with the tokens of all images after each other, or a list of such arrays to join (one an image).
        text: "key" and "value" (layer, kv_head, prefix token, dim) of the tokens before each image. bfloat16 comes as
        uint16 bits. Raises SpaceError or StoreError; nothing is left behind then.
        """
        everything = {**arrays, **{f"text_{kind}": pieces for kind, pieces in (text or {}).items()}}
        covered = (
            self.covered_indices(range(samples[0].index, samples[-1].index + 1))
            if samples
            else set()
        )
        left = [position for position, sample in enumerate(samples) if sample.index not in covered]
        if len(left) < len(samples):
            if not left:
                with os_errors(f"run {self.name}: its parts cannot be synced"):
                    fsync_folder(self.folder / "parts")  # the winner may not have come to it
                return 0
            everything = {
                key: writer.select(everything[key], token_offsets(samples, key), left)
                for key in everything
            }
            samples = [samples[position] for position in left]
            name = layout.part_name(samples[0].index, samples[-1].index + 1)
        nbytes = writer.write_part(
            self.store, self.folder / "parts" / name, self.config, samples, everything
        )
        self.refresh()
        return nbytes

    def drop_part(self, name: str) -> None:
        """Take a part away, at once for readers; whoever does so holds its claim. None of this name is fine."""
        with os_errors(f"run {self.name}: part {name} cannot be dropped"):
            remove_committed(self.store, self.folder / "parts" / name)
        self._known.pop(f"parts/{name}", None)
        self.refresh()

    def commit_text(self, names: Sequence[str], values: Bits) -> None:
        """Store value vectors (text, layer, kv_head, dim) of class names or expressions; known names are left out."""
        while True:
            known = [name for part in self._scan("text") for name in part.attributes["names"]]
            new = {name: position for position, name in enumerate(names) if name not in set(known)}
            if not new:
                return
            folder = self.folder / "text" / self._next_text()
            if writer.write_text(
                self.store, folder, self.config, list(new), values[list(new.values())]
            ):
                return

    def info(self) -> dict[str, Any]:
        """One row for `kvtool store runs`: settings, images, parts, bytes of the stored arrays."""
        return summary.summarize(self)

    def _next_text(self) -> str:
        """Name of the next part of texts: where it starts, were none before it dropped."""
        parts = self._scan("text")
        ends = [
            int(part.folder.name) + len(part.attributes["names"])
            for part in parts
            if part.folder.name.isdecimal()
        ]
        return f"{max(ends, default=0):07d}"

    def _claim_path(self, name: str) -> Path:
        return self.folder / "locks" / f"{layout.check_name(name, 'claim')}{locks.SUFFIX}"

    @cached_property
    def _reader(self) -> PartsReader:
        return PartsReader(self.config, self._scan("parts"))

    def _scan(self, group: str, within: range | None = None) -> list[Part]:
        """Committed parts (or texts), by name; with a range, only parts that may hold images of it. Their attributes
        never change, so each is read once."""
        parts = []
        for entry in sorted(member_names(self.folder / group)):
            span = layout.part_range(entry)
            if within is not None and span and (span[0] >= within.stop or span[1] <= within.start):
                continue
            key = f"{group}/{entry}"
            if key not in self._known:
                self._known[key] = self.open_part(group, entry)
            parts.append(self._known[key])
        return parts

    def readable(self, group: str) -> list[Part]:
        """Parts or texts that open, damaged ones left out: for tables, never for numbers."""
        found = []
        for name in sorted(member_names(self.folder / group)):
            with suppress(StoreError):
                found.append(self.open_part(group, name))
        return found

    def open_part(self, group: str, name: str) -> Part:
        """A folder of parts/ or text/, its attributes read anew. Raises CorruptError."""
        folder = self.folder / group / name
        label = name if group == "parts" else f"text/{name}"
        where = f"run {self.name}, part {label}"
        with os_errors(f"{where}: cannot be read"):
            try:
                attributes = read_group(folder, where)
            except FileNotFoundError:
                raise CorruptError(
                    f"{where}: {folder / layout.ZARR_JSON} is missing: {layout.REPAIR}"
                ) from None
            except CorruptError as error:
                raise CorruptError(f"{error}: {layout.REPAIR}") from None
        part = Part(self.name, label, folder, attributes)
        (check_part if group == "parts" else check_text)(part, self.config)
        return part

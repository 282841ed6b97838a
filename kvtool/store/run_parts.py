"""The committed parts of a run: found, opened and counted, without reading their arrays."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kvtool.errors import CorruptError, StoreError
from kvtool.geometry import array_kind
from kvtool.store import layout, mirrors
from kvtool.store.files import member_names, os_errors
from kvtool.store.manifest import RunConfig
from kvtool.store.nonfinite import StoredBlock
from kvtool.store.parts import Part, check_part, check_text
from kvtool.store.roster import Roster, read_roster
from kvtool.store.sealed import read_group


@dataclass(repr=False)
class RunParts:
    """The folder of a run and what is committed there, as of now."""

    store: Path
    config: RunConfig
    _parts: dict[str, Part] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name in its store."""
        return self.config.name

    @property
    def address(self) -> str:
        """What a user calls the run's store: its address on an object store, else its path."""
        return mirrors.address_of(self.store)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return layout.run_path(self.store, self.name)

    @property
    def roster(self) -> Roster:
        """The images of the run in order, as of now. Raises CorruptError."""
        return read_roster(self.folder, f"run {self.name}")

    @property
    def place(self) -> str | None:
        """Where the data set lay when it was last extracted from; None for a list of paths."""
        roster = self.roster
        return roster.dataset_path if roster.n_segments else self.config.dataset_path

    def parts(self) -> list[Part]:
        """Return the committed parts, as of now."""
        return self._scan("parts")

    def covered_indices(self, within: range | None = None) -> set[int]:
        """Return the dataset indices of the images in committed parts, as of now.

        within: only indices of this range, for which only the parts that may hold them are opened.
        """
        # Only parts whose names may hold the range are opened: there may be thousands.
        covered = {index for part in self._scan("parts", within) for index in part.indices}
        return covered if within is None else covered & set(within)

    def check_files(self) -> None:
        """Raise CorruptError where a file of a committed part or text is missing or has another
        size.

        This looks at every folder and reads no file. On an object store nothing is looked at:
        objects were compared when they were committed, and are missed when they are read.
        """
        if mirrors.mirror_of(self.store) is not None:
            return
        parts = [*self._scan("parts"), *self._scan("text")]
        with os_errors(f"run {self.name}: its parts cannot be looked at"):
            # A part that is gone as a whole was removed by someone meanwhile, which is no damage.
            whats = [what for part in parts if (what := part.lacking()) and part.folder.exists()]
        if whats:
            extent = f" ({len(whats)} of {len(parts)} parts are damaged)" if len(whats) > 1 else ""
            raise CorruptError(f"{whats[0]}{extent}: {layout.REPAIR}")

    def nonfinite(self, within: range | None = None) -> dict[StoredBlock, int]:
        """Return how many values are NaN or infinite, by (array, layer, head) where there are any,
        as of now.

        The array is a kind, text_key, text_value, or "text" for the vectors of text_names. No array
        is read: parts record the counts when they are written.

        within: only parts that may hold images of this range of dataset indices, and no texts.
        """
        counts: Counter[StoredBlock] = Counter()
        names = self.config.array_names()
        parts = [
            (name, array_kind(name), part) for part in self._scan("parts", within) for name in names
        ]
        values = [array.name for array in self.config.arrays_of("value")]
        text_parts = self._scan("text") if within is None else []
        texts = [(name, "text", part) for part in text_parts for name in values]
        for array, label, part in [*parts, *texts]:
            # Layers are counted by their position in the array, and told by the model's number.
            layers = self.config.stored_layers(array)
            for position, head, count in part.nonfinite(array):
                counts[label, layers[position], head] += count
        return dict(counts)

    def readable(self, group: str) -> list[Part]:
        """Return the parts or texts that open, damaged ones left out: for tables, never for
        numbers.
        """
        parts = []
        for name in member_names(self.folder / group):
            with suppress(StoreError):
                parts.append(self.open_part(group, name))
        return parts

    def open_part(self, group: str, name: str) -> Part:
        """Open a folder of parts/ or text/ and read its attributes anew. Raises CorruptError."""
        folder = self.folder / group / name
        label = name if group == "parts" else f"text/{name}"
        label_in_errors = f"run {self.name}, part {label}"
        with os_errors(f"{label_in_errors}: cannot be read"):
            try:
                attributes = read_group(folder, label_in_errors)
            except FileNotFoundError:
                raise CorruptError(
                    f"{label_in_errors}: {folder / layout.ZARR_JSON} is missing: {layout.REPAIR}"
                ) from None
            except CorruptError as error:
                raise CorruptError(f"{error}: {layout.REPAIR}") from None
        part = Part(self.name, label, folder, attributes)
        # Checked on opening, so that no reader has to doubt the attributes.
        (check_part if group == "parts" else check_text)(part, self.config)
        return part

    def _scan(self, group: str, within: range | None = None) -> list[Part]:
        """Return the committed parts or texts by name; with a range, only parts that may hold
        images of it.
        """
        mirrors.refresh(self.store)
        parts = []
        for entry in member_names(self.folder / group, within):
            # The attributes of a part never change, so they are read once.
            key = f"{group}/{entry}"
            if key not in self._parts:
                self._parts[key] = self.open_part(group, entry)
            parts.append(self._parts[key])
        return parts

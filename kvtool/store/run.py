"""A run: what was committed, see StoredRun, and the way to commit more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool.registry import load_object
from kvtool.store import layout, locks, summary, writer
from kvtool.store.blocks import BlockValues
from kvtool.store.encoding import Bits
from kvtool.store.files import fsync_folder, os_errors, remove_committed
from kvtool.store.roster import Roster, extend_roster
from kvtool.store.run_arrays import token_offsets
from kvtool.store.stored_run import StoredRun
from kvtool.store.texts import text_attributes
from kvtool.store.tokens import Numbers, TokenChoice, Tokens, choose
from kvtool.store.writer import Pieces
from kvtool.text_templates import DEFAULT
from kvtool.types import HIDDEN, Sample

HIDDEN_READER = "kvtool.features.residual:read_hidden"
"""What computes a residual stream: by name, since it runs the model, and stands on the store."""
VIEWER = "kvtool.viewer.widget:widget"
"""What shows a run in a notebook: by name, since it stands on all that shows runs."""


@dataclass(repr=False)
class Run(StoredRun):
    """A run of a store, as `kvtool.open(store).run(name)` gives it: read from it, or commit more to
    it.

    It reads the images that were committed when it first looked, so that all blocks have the same;
    refresh() looks again. Texts, covered_indices and parts are as of now.
    """

    def hidden(
        self,
        layer: int | Sequence[int],
        ids: Sequence[str] | None = None,
        raw: bool = False,
        *,
        tokens: Tokens | None = None,
        rows: Numbers | None = None,
        cols: Numbers | None = None,
        category: str | None = None,
        data: str | Path | None = None,
        model: str | None = None,
        device: str = "auto",
    ) -> BlockValues:
        """Return the residual stream of image tokens after a decoder layer, or after several.

        It is what the layer puts out, before the final norm, with the shape that `read` gives one
        head, or several layers of it. A run that holds the kind `hidden` gives what it stores; any
        other run that holds keys, values and projected tokens of all layers lets its model compute
        it from these, at the cost of the chosen tokens alone: bit for bit, but that in float32 the
        last bit of a sum may depend on how many tokens run together.

        Args:
            layer: the layer's number, or several in any order.
            ids, raw, tokens, rows, cols, category, data: as in read.
            model: the place of the run's model, if its name does not say it.
            device: where the model runs: auto, cpu, cuda or cuda:N.

        Raises UsageError where the run does not hold what is needed, and for an image, a token or a
        class that is not there; ModelError where the run's model is not there.
        """
        ids, choice = choose(self, HIDDEN, ids, TokenChoice(tokens, rows, cols), category, data)
        read_hidden = load_object(HIDDEN_READER)
        stream: BlockValues = read_hidden(self, layer, ids, raw, choice, model, device)
        return stream

    def viewer(
        self,
        *,
        model: str | None = None,
        data: Mapping[str, str | Path] | None = None,
        device: str = "auto",
        state: str = "",
        height: int = 720,
    ) -> Any:
        """Return the live viewer of the run as a widget for a notebook, see kvtool.widget.

        Raises KvtoolError where anywidget is not installed.
        """
        options = {"model": model, "data": data, "device": device, "state": state}
        return load_object(VIEWER)(self, height=height, **options)

    def enroll(
        self, ids: Sequence[str], dataset_path: str | None, absent: Collection[int] = ()
    ) -> Roster:
        """Put images that are new at the end of the roster, and note those gone and the data set's
        place.
        """
        return extend_roster(self.store, self.folder, f"run {self.name}", ids, dataset_path, absent)

    def claimed(self, name: str) -> bool:
        """Return whether someone holds the claim on `name` now."""
        return locks.is_held(self._claim_path(name))

    def holders(self) -> dict[str, locks.Owner | None]:
        """Return who works on what now, by the claim's name; None where the owner is not known."""
        with os_errors(f"run {self.name}: its claims cannot be listed"):
            return locks.live_claims(self.folder / "locks")

    def claim(self, name: str, wait_s: float = 0.0) -> AbstractContextManager[locks.Owner]:
        """Return a context in which this process alone works on `name`.

        name: a part's name, or that of another piece of work over the run. Raises BusyError, naming
        the owner.
        """
        what = name if layout.part_range(name) is None else f"part {name}"
        return locks.claim(self.store, self._claim_path(name), f"{what} of run {self.name}", wait_s)

    def commit_part(
        self,
        name: str,
        samples: Sequence[Sample],
        arrays: Mapping[str, Pieces],
        text: Mapping[str, Pieces] | None = None,
    ) -> int:
        """Commit images and return the bytes written; images that another writer committed
        meanwhile are dropped.

        Args:
            name: layout.part_name(first index, last index + 1).
            samples: the images by rising index.
            arrays: kind -> (layer, head, token, dim) with the tokens of all images after each
                other, or a list of such arrays to join (one an image); bfloat16 comes as uint16
                bits.
            text: "key" and "value" (layer, kv_head, prefix token, dim) of the tokens before each
                image.

        Raises SpaceError or StoreError; nothing is left behind then.
        """
        # The text before the images has arrays of its own names.
        everything = {**arrays, **{f"text_{kind}": pieces for kind, pieces in (text or {}).items()}}
        covered = self._covered(samples)
        positions = [
            position for position, sample in enumerate(samples) if sample.index not in covered
        ]
        if not positions and samples:
            with os_errors(f"run {self.name}: its parts cannot be synced"):
                fsync_folder(self.folder / "parts")  # the winner may not have come to it
            return 0
        # What others committed is cut out, and the part is named after what is left of it.
        if len(positions) < len(samples):
            everything = {
                array: writer.select(pieces, token_offsets(samples, array), positions)
                for array, pieces in everything.items()
            }
            samples = [samples[position] for position in positions]
            name = layout.part_name(samples[0].index, samples[-1].index + 1)
        folder = self.folder / "parts" / name
        nbytes = writer.write_part(self.store, folder, self.config, samples, everything)
        # The run as it is read from now on has the new part, too.
        self.refresh()
        return nbytes

    def drop_part(self, name: str) -> None:
        """Take a part away, at once for readers; whoever does so holds its claim.

        None of this name is fine.
        """
        with os_errors(f"run {self.name}: part {name} cannot be dropped"):
            remove_committed(self.store, self.folder / "parts" / name)
        # A part that is made anew under the name has other attributes.
        self._parts.pop(f"parts/{name}", None)
        self.refresh()

    def commit_text(
        self,
        names: Sequence[str],
        vectors: Bits | Mapping[str, Bits],
        template: str = DEFAULT,
        token_counts: Sequence[int] = (),
    ) -> None:
        """Store vectors (text, layer, head, dim) of class names or expressions; names whose vectors
        are known in this template are left out.

        vectors: by array, see kvtool.store.texts.text_arrays; an array alone is that of `value`.
        """
        arrays = vectors if isinstance(vectors, Mapping) else {"value": vectors}
        counts = dict(zip(names, token_counts, strict=False))
        # Another writer may commit texts at the same place meanwhile: then this looks again.
        while True:
            texts = self.texts(template)
            # A text counts as stored only where every array has it.
            stored = set.intersection(*(set(texts.names(array)) for array in arrays))
            new = {name: position for position, name in enumerate(names) if name not in stored}
            if not new:
                return
            folder = self.folder / "text" / self._next_text()
            attributes = text_attributes(list(new), template, counts)
            new_vectors = {name: array[list(new.values())] for name, array in arrays.items()}
            if writer.write_text(self.store, folder, self.config, new_vectors, attributes):
                return

    def info(self) -> dict[str, Any]:
        """Return one row for `kvtool store runs`: settings, images, parts, bytes of the stored
        arrays.
        """
        return summary.summarize(self)

    def _next_text(self) -> str:
        """Return the name of the next part of texts: how many texts there are before it."""
        # Numbered by what is there, so that two writers choose the same name and one of them wins.
        ends = [
            int(part.folder.name) + len(part.attributes["names"])
            for part in self._scan("text")
            if part.folder.name.isdecimal()
        ]
        return f"{max(ends, default=0):07d}"

    def _covered(self, samples: Sequence[Sample]) -> set[int]:
        """Return the indices of those images, by rising index, that are committed by now."""
        if not samples:
            return set()
        return self.covered_indices(range(samples[0].index, samples[-1].index + 1))

    def _claim_path(self, name: str) -> Path:
        return self.folder / "locks" / f"{layout.check_name(name, 'claim')}{locks.SUFFIX}"

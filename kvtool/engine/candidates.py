"""A stored run beside an extraction: whether it holds the same pictures, there or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kvtool.datasets import Spec, open_dataset
from kvtool.datasets.clips import digest_refs, refs_of
from kvtool.datasets.identity import Difference, compare
from kvtool.errors import CorruptError, KvtoolError
from kvtool.store import Run

if TYPE_CHECKING:
    from kvtool.engine.match import Extraction


@dataclass(frozen=True)
class Candidate:
    """A run of the settings asked for, beside the data set asked for."""

    extraction: Extraction
    run: Run

    @cached_property
    def difference(self) -> Difference:
        """How the data set differs from the run's pictures.

        A list of paths is a choice: what it leaves out is not gone.
        """
        difference = compare(self.run.pictures, self.extraction.refs, self.extraction.texts)
        if self._are_lists:
            return replace(
                difference, vanished=tuple(set(difference.vanished) & set(self.extraction.ids))
            )
        return difference

    @cached_property
    def roster_ids(self) -> set[str]:
        """Return the ids that the run has listed."""
        return set(self.run.roster.index_of)

    @property
    def n_images(self) -> int:
        """Return how many images the run holds."""
        return len(self.run.pictures)

    @cached_property
    def is_here(self) -> bool:
        """Whether the data set lies where the run's did, or the run was asked for by its name."""
        folder = self.run.place
        return self.extraction.job.run is not None or (
            folder is not None and folder == self.extraction.dataset_path
        )

    @property
    def is_of_here(self) -> bool:
        """is_here of a run whose roster may be damaged: then by the place where it was made."""
        try:
            return self.is_here
        except CorruptError:
            return self.run.config.dataset_path == self.extraction.dataset_path

    @property
    def _are_lists(self) -> bool:
        return self.run.place is None and self.extraction.dataset_path is None

    @property
    def _lists_meet(self) -> bool:
        """Whether of two lists of paths one is part of the other."""
        ids = set(self.extraction.ids)
        return self._are_lists and (ids <= self.roster_ids or self.roster_ids <= ids)

    @property
    def goes_on(self) -> bool:
        """Whether the extraction is one of this run's pictures and possibly more."""
        return not self.difference and (self.is_here or self._lists_meet or self._moved)

    @property
    def is_changed(self) -> bool:
        """Whether this is the run of the data set's place, but not of its pictures any more."""
        if self.extraction.job.prefix.startswith("file:") and not self.extraction.job.run:
            return False  # other texts are another condition
        return bool(self.difference) and (self.is_here or self._lists_meet)

    @property
    def _moved(self) -> bool:
        """Whether the data set is the run's at another place: moved there, or a copy."""
        folder = self.run.place
        if folder is None or self.extraction.dataset_path is None or not self.run.pictures:
            return False
        # Pictures that are gone from the run's own place can only have been moved here.
        if not _exists(folder):
            return True
        return self.roster_ids == set(self.extraction.ids) and self._is_copy(folder)

    def _is_copy(self, dataset_path: str) -> bool:
        """Return whether the pictures that the run does not hold yet are those of its own place,
        too.
        """
        # What the run holds was compared already: only the others can still differ.
        stored = {picture.id for picture in self.run.pictures}
        unstored = [ref for ref in self.extraction.refs if ref.id not in stored]
        if not unstored:
            return True
        config = self.run.config
        # The run's own place is asked: a copy agrees in pictures not yet extracted, too.
        try:
            spec = Spec(config.dataset, dataset_path, config.split or None)
            refs = refs_of(open_dataset(spec), config.view)
        except KvtoolError:
            return False
        unstored_ids = {ref.id for ref in unstored}
        return digest_refs(unstored) == digest_refs([ref for ref in refs if ref.id in unstored_ids])


def _exists(dataset_path: str) -> bool:
    try:
        return Path(dataset_path).exists()
    except OSError:
        return True

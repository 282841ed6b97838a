"""Which run an extraction goes on with: the one of its settings that holds its pictures.

No torch, no weights.

A run goes on where its pictures are those of the data set: at the place it was extracted from, at
another one to which the data set moved or was copied, or in a folder that has grown. Names alone
prove nothing: what counts is what the pictures are (kvtool.datasets.identity).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from kvtool.datasets import open_dataset
from kvtool.datasets.clips import refs_of, view_of
from kvtool.datasets.identity import Difference
from kvtool.engine.candidates import Candidate
from kvtool.engine.prefixes import FROM_DATA, condition_name, prefix_texts
from kvtool.errors import ChangedError, CorruptError, RunConflictError, UsageError
from kvtool.layers import named_layers
from kvtool.models.families import last_norm
from kvtool.models.hub import Snapshot, resolve, same_model
from kvtool.store import Run, RunConfig, Store
from kvtool.store.parts import Part
from kvtool.text_templates import TextTemplate
from kvtool.types import VIDEO

if TYPE_CHECKING:
    from kvtool.datasets.base import Dataset, ImageRef
    from kvtool.engine.plan import Job
    from kvtool.types import Kind

CLAIM_WAIT_S = 60.0
LISTED = 10
"""How many of the pictures and annotations that a data set leaves out are named; all are counted.
"""


@dataclass(frozen=True)
class Extraction:
    """A job with its data set opened and its model's files looked at.

    refs: all pictures of the split; prefixes: the text before each of them, None where there is
    none for it.
    """

    job: Job
    dataset: Dataset
    snapshot: Snapshot
    refs: tuple[ImageRef, ...]
    prefixes: tuple[str | None, ...]

    @cached_property
    def ids(self) -> list[str]:
        """All images of the split, in the data set's order."""
        return [ref.id for ref in self.refs]

    @property
    def n_images(self) -> int:
        """How many of them are asked for: the first ones."""
        return len(self.refs[: self.job.limit])

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for each picture that is there but cannot be listed; none where as many as were
        asked for can be.
        """
        limit = self.job.limit
        enough = limit is not None and limit <= len(self.refs)
        return () if enough else unread_lines(self.dataset)

    @property
    def dataset_path(self) -> str | None:
        """Where the data set lies; None for a list of paths."""
        return str(self.dataset.root.resolve()) if self.dataset.root else None

    @cached_property
    def texts(self) -> dict[str, str | None] | None:
        """The text before each image, where it comes from the data set or a file; else None."""
        if self.job.prefix.split(":")[0] not in FROM_DATA:
            return None
        return dict(zip(self.ids, self.prefixes, strict=True))


def unread_lines(dataset: Dataset) -> tuple[str, ...]:
    """A line for each picture that a data set has and cannot list; an object given in Python may
    have none.
    """
    return tuple(getattr(dataset, "unread", ()))


def open_extraction(job: Job, dataset: Dataset | None = None) -> Extraction:
    """Open a job's data set, where it is not given, and look at its model's files.

    Raises UsageError, DatasetError, ModelError.
    """
    if dataset is None:
        dataset = open_dataset(job.dataset)
    # The data set decides on the view, and the view on what is one item: a picture or a video.
    job = replace(job, view=view_of(dataset, job.view))
    refs = tuple(dataset.present())
    if job.view == VIDEO:
        refs = tuple(refs_of(dataset, job.view))
    if not refs:
        raise UsageError(
            f"{job.dataset}: expected at least one image, found none; nothing to extract"
        )
    if job.limit is not None and job.limit < 1:
        raise UsageError(f"--limit: expected a positive number of images, found {job.limit}")
    # Parsed for its errors alone, before anything is loaded.
    TextTemplate.parse(job.text_template)
    prefixes = prefix_texts(job.prefix, dataset, refs)
    if job.kinds is None or {"value", "projected"} & set(job.kinds):
        dataset.texts()  # its lines about what is left out belong to those of the pictures
    for line in dataset.left_out(LISTED):
        # An error is told under -q, too.
        level = logging.ERROR if line in unread_lines(dataset) else logging.WARNING
        logging.getLogger("kvtool").log(level, "%s", line)
    return Extraction(job, dataset, resolve(job.model, weights=False), refs, prefixes)


def find_run(extraction: Extraction, store: Store) -> Run | None:
    """The run that an extraction goes on with, None where it needs a new one.

    Of several, the one at the same place, then the one that holds most. Raises ChangedError where
    the run of this place (or of the name asked for) holds pictures that changed or vanished since,
    and they are not to be replaced; RunConflictError where the name asked for belongs to a run of
    other settings; CorruptError where the run has lost files, since only `store repair` drops what
    is stored.
    """
    # A damaged run elsewhere must not stop an extraction here.
    candidates = _readable(
        Candidate(extraction, run) for run in _runs_of_these_settings(extraction, store)
    )
    # A run whose pictures are these goes on, and of several the one at this very place.
    going_on = [candidate for candidate in candidates if candidate.goes_on]
    if going_on:
        largest = max(going_on, key=lambda candidate: (candidate.is_here, candidate.n_images)).run
        largest.check_files()
        return largest
    # None goes on: is it that pictures of this place changed under a run?
    changed = [candidate for candidate in candidates if candidate.is_changed]
    if not changed:
        return None
    run, difference = max(
        ((c.run, c.difference) for c in changed), key=lambda pair: len(pair[0].pictures)
    )
    if extraction.job.changed == "refuse":
        raise ChangedError(
            f"run {run.name}: expected the pictures it was extracted from, found that {difference} "
            "since; nothing "
            "was touched: --changed replace extracts them again, --run NAME makes another run"
        )
    run.check_files()
    return run


def _readable(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those whose pictures can be read.

    Raises CorruptError where the damaged one is of this very place or name; the damage of any other
    is said, and stops nothing.
    """
    readable = []
    for candidate in candidates:
        try:
            _ = candidate.n_images, candidate.roster_ids
        except CorruptError as error:
            if candidate.is_of_here:
                raise
            logging.getLogger("kvtool").warning("%s; run %s is left out", error, candidate.run.name)
            continue
        readable.append(candidate)
    return readable


def _runs_of_these_settings(extraction: Extraction, store: Store) -> list[Run]:
    """Runs of the model, data set and choices of a job. Raises RunConflictError, see find_run."""
    name = extraction.job.run
    if name is not None and name not in store.runs():
        return []
    runs = []
    for run in store.readable_runs() if name is None else [store.run(name)]:
        # Compared as if the job had this run's model and defaults, which cost no weights to know.
        requested = asked_config(extraction, run.config)
        # A run asked for by name must have these settings; any other is simply not the one.
        if requested.hash == run.config.hash:
            runs.append(run)
        elif name is not None:
            raise RunConflictError(
                f"run {name} of {store.address} has another configuration: "
                f"{'; '.join(run.config.differences(requested))}: use another --run name"
            )
    return runs


def asked_config(extraction: Extraction, stored: RunConfig) -> RunConfig:
    """The settings of a job if its model is that of a stored run, whose defaults then are the job's
    too.
    """
    job, dataset, snapshot = extraction.job, extraction.dataset, extraction.snapshot
    # Without weights here no revision is known: the commit tells the model then.
    revision = stored.model.revision if same_model(stored.model, snapshot) else snapshot.revision
    defaults = stored.defaults
    is_encoder = not defaults.layers
    geometry = stored.model.geometry
    depth = geometry.vision_layers if is_encoder else geometry.layers
    layers = job.layers
    # Layers by name depend on the depth, which the stored geometry tells without weights.
    if isinstance(layers, str):
        layers = tuple(named_layers(layers, depth))
    if layers is not None:
        layers = tuple(sorted(set(layers)))
    # Of an encoder alone the chosen layers are the tower's; beside a decoder its own stay.
    vision_layers = defaults.vision_layers if layers is None or not is_encoder else layers
    # Whether the last norm is applied follows from the layers, so that it is derived anew.
    norm = last_norm(stored.model.family, is_encoder, geometry.vision_layers, vision_layers)
    return replace(
        stored,
        model=replace(stored.model, revision=revision, dtype=job.dtype, attention=job.attention),
        dataset=dataset.name,
        split=dataset.split,
        prefix=condition_name(job.prefix),
        view=job.view,
        keys=job.keys,
        kinds=defaults.kinds if job.kinds is None else _in_order(job.kinds, defaults.kinds),
        layers=() if is_encoder else defaults.layers if layers is None else layers,
        vision_layers=vision_layers,
        codec=stored.codec if job.codec == "auto" else job.codec,
        vision_norm=norm,
        image_size=job.size.image_size,
        min_pixels=job.size.min_pixels,
        max_pixels=job.size.max_pixels,
        system=job.system,
    )


def _in_order(kinds: Sequence[Kind], order: Sequence[Kind]) -> tuple[Kind, ...]:
    """Chosen kinds in the model's order, those it does not have at the end."""
    return (
        *(kind for kind in order if kind in kinds),
        *(kind for kind in kinds if kind not in order),
    )


def stale_parts(extraction: Extraction, run: Run) -> tuple[list[Part], Difference]:
    """The parts that hold pictures which changed or vanished since, and which those are."""
    difference = Candidate(extraction, run).difference
    # A part is dropped whole: what is written is never changed.
    stale = {*difference.changed, *difference.vanished}
    parts = [
        part
        for part in run.parts()
        if not stale.isdisjoint(picture.id for picture in part.pictures)
    ]
    return parts, difference


def replace_changed(extraction: Extraction, run: Run) -> int:
    """Drop the parts that hold pictures which changed or vanished, so that they are extracted
    again; how many images.

    Raises BusyError where another process works on one of the parts.
    """
    parts, difference = stale_parts(extraction, run)
    for part in parts:
        # Under the claim of its block, so that no other process writes these pictures meanwhile.
        with run.claim(run.config.claim_name(part.indices[0]), CLAIM_WAIT_S):
            run.drop_part(part.name)
    # What vanished leaves the roster, so that nothing asks for it again.
    if difference.vanished:
        index_of = run.roster.index_of
        vanished_rows = [index_of[name] for name in difference.vanished if name in index_of]
        run.enroll((), extraction.dataset_path, vanished_rows)
    return sum(len(part.pictures) for part in parts)

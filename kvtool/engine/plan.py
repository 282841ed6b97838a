"""What an extraction is: the job as the user asked for it, and the plan made of it before any
weight is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

from kvtool.engine.settings import new_config, select_arrays
from kvtool.errors import ImageError, RunConflictError
from kvtool.store import RunConfig
from kvtool.store.texts import text_arrays
from kvtool.text_templates import DEFAULT
from kvtool.types import InputSize, KeyPosition, Kind, Precision, RunView

if TYPE_CHECKING:
    from kvtool.datasets.base import ImageRef
    from kvtool.engine.match import Extraction
    from kvtool.engine.reuse import FeatureSource
    from kvtool.models.base import LanguageModel, Model, Request
    from kvtool.store import Run, Store
    from kvtool.store.encoding import Codec
    from kvtool.types import Sample

Changed = Literal["refuse", "replace"]
BatchSize = int | Literal["auto"]
CodecChoice = Literal["lz4", "none", "auto"]
PART_IMAGES = 32
PART_BYTES = 1_600_000_000
PROBED_IMAGES = 16


@dataclass(frozen=True)
class Job:
    """One `kvtool extract`, as plain data: it travels to worker processes and machines unchanged.

    layers: of the decoder, or of the tower for an encoder alone: numbers, or early, middle, late or
    last:N; None keeps all, or the tower's last.
    prefix: none, correct, incorrect, random, text:... (literal text before every image), or
    file:CSV (one an image).
    batch_size: images a batch; auto is 16, or what fits the device, and more of them together.
    reuse: take what does not depend on the prefix from a run of the store that holds it, where
    there is one.
    limit: only the first N images of the split; a later run with a larger limit goes on from there.
    codec: auto is measured on the first pictures of a new run; a run goes on with its own.
    run: name of the run; stem: a name for a new one, to which a number is put where it is taken.
    changed: what to do where pictures of the run changed or vanished since: refuse, or replace what
    is stored of them.
    text_template: what stands around class names and expressions, see kvtool.text_templates.
    size: to what size pictures are brought, where that is not the checkpoint's own way.
    system: the text of a system message before everything else; empty leaves it to the template.
    check: prove the model on the first picture of a new run.
    by_layer: leave the decoder's layers on disk, and bring many pictures through each in turn.
    """

    store: str
    model: str
    dataset: str
    prefix: str = "none"
    kinds: tuple[Kind, ...] | None = None
    layers: str | tuple[int, ...] | None = None
    limit: int | None = None
    view: RunView = "base"
    keys: KeyPosition = "post-rope"
    dtype: Precision = "bfloat16"
    batch_size: BatchSize = "auto"
    attention: str = "sdpa"
    codec: CodecChoice = "lz4"
    run: str | None = None
    stem: str | None = None
    changed: Changed = "refuse"
    strict: bool = False
    reuse: bool = True
    text_template: str = DEFAULT
    size: InputSize = field(default_factory=InputSize)
    system: str = ""
    check: bool = True
    by_layer: bool = False


@dataclass(frozen=True)
class Plan:
    """A job resolved against its model and data set.

    Args:
        ids: all images of the split.
        dataset_path: where they lie.
        refs: the pictures asked for.
        prefixes: the text before each of them, None where there is none.
        indices: the index of each in the run's roster.
        texts: class names and expressions to store.
        text_template: what they are put into.
        source: the run that features before the decoder are taken from, where it holds the picture.
        is_new: whether the run was not there yet when the plan was made.
        n_workers: how many share the work as far as this call knows.
        any_codec: whether a run of either codec is the plan's.
    """

    config: RunConfig
    request: Request
    ids: tuple[str, ...]
    dataset_path: str | None
    refs: tuple[ImageRef, ...]
    prefixes: tuple[str | None, ...]
    indices: tuple[int, ...]
    texts: tuple[str, ...]
    image_bytes: int
    n_probed: int
    source: str | None = None
    is_new: bool = True
    is_named: bool = False
    text_template: str = DEFAULT
    n_workers: int = 1
    any_codec: bool = False

    @cached_property
    def position_of(self) -> dict[int, int]:
        """Position among `refs` of each index."""
        return {index: position for position, index in enumerate(self.indices)}

    def ref(self, index: int) -> ImageRef:
        """Return the picture at an index of the run."""
        return self.refs[self.position_of[index]]

    def prefix(self, index: int) -> str | None:
        """Return the text before the picture at an index of the run."""
        return self.prefixes[self.position_of[index]]

    def parts(self, covered: Collection[int]) -> list[tuple[int, ...]]:
        """Indices still to do, a tuple a part.

        Parts never cross a block of `part_size` images, so that workers and later runs agree on
        them.
        """
        # Blocks of the run's own numbering, so that they are the same whatever is covered already.
        blocks: dict[int, list[int]] = {}
        for index in sorted(self.indices):
            if index not in covered:
                blocks.setdefault(index // self.config.part_size, []).append(index)
        return [tuple(block) for block in blocks.values()]

    def within(self, run: Run) -> Plan:
        """The same plan in the order and the blocks of a run that exists, whose roster comes to
        name its images.
        """
        index_of = run.enroll(self.ids, self.dataset_path).index_of
        return replace(
            self, config=run.config, indices=tuple(index_of[ref.id] for ref in self.refs)
        )

    def open_run(self, store: Store, codec: Callable[[], Codec] | None = None) -> Run:
        """The run of this plan, made where there is none.

        codec: chooses that of a run to be made; by default the plan's.

        Raises RunConflictError where another process has just made one of its name over other
        pictures.
        """
        # Two workers may choose different names for one new run: the second joins the first's.
        if self.is_new and not self.is_named and (twin := self._twin(store)) is not None:
            return twin
        if self.is_new and self.config.name not in store.runs():
            config = self.config if codec is None else replace(self.config, codec=codec())
            # None where another process made it in the meantime.
            run = store.new_run(config, self.ids, self.dataset_path)
            if run is not None:
                return run
        # A run that was there, or that came in between, must be the very one that was planned.
        run = store.run(self.config.name)
        is_other = self.is_new and (run.roster.dataset_path, run.roster.ids) != (
            self.dataset_path,
            self.ids,
        )
        if not self._has_settings(run) or is_other:
            raise RunConflictError(
                f"run {run.name}: it was made by another process for other settings or pictures: "
                "run again"
            )
        return run

    def _has_settings(self, run: Run) -> bool:
        """Whether a run has the plan's settings; the codec that another worker chose is one."""
        codec = run.config.codec if self.any_codec else self.config.codec
        return run.config.hash == replace(self.config, codec=codec).hash

    def _twin(self, store: Store) -> Run | None:
        """A run of the same settings over the same place and images, which another worker made
        since this one looked; whatever name each of them chose.
        """
        return next((run for run in store.readable_runs() if self._is_twin(run)), None)

    def _is_twin(self, run: Run) -> bool:
        """Whether a run is the one this plan would make; where texts come from a file, they must
        agree, too.
        """
        if not self._has_settings(run) or (run.roster.dataset_path, run.roster.ids) != (
            self.dataset_path,
            self.ids,
        ):
            return False
        if self.config.prefix != "file":
            return True
        # Without a picture stored yet there is no text to compare, and so no proof.
        stored = [picture for picture in run.pictures if picture.index in self.position_of]
        return bool(stored) and all(
            picture.prefix == self.prefix(picture.index) for picture in stored
        )


def make_plan(extraction: Extraction, model: Model, run: Run | None, store: Store | None) -> Plan:
    """Resolve an extraction that goes on with `run`, or needs a new one. `model` needs no weights.

    store: where the new run is to be made, and where another run may have what it needs; None where
    it is not there yet. Raises UsageError for a choice that the model does not offer.
    """
    from kvtool.engine.reuse import find_source

    job, dataset = extraction.job, extraction.dataset
    selection = select_arrays(extraction, model, run, store)
    request = selection.request
    config = new_config(extraction, model, selection, store) if run is None else run.config
    refs, prefixes = extraction.refs[: job.limit], extraction.prefixes[: job.limit]
    source = find_source(store, config, refs) if store and job.reuse else None
    image_bytes, n_probed = mean_image_bytes(model, request, refs, prefixes, job.view, source)
    # Part size is part of a run for good: one that exists keeps its own.
    if run is None:
        config = replace(config, part_size=part_size(image_bytes))
    texts = tuple(dataset.texts()) if text_arrays(config) else ()
    name = source.run.name if source else None
    ids, indices = tuple(extraction.ids), tuple(range(len(refs)))
    plan = Plan(
        config,
        request,
        ids,
        extraction.dataset_path,
        refs,
        prefixes,
        indices,
        texts,
        image_bytes,
        n_probed,
        source=name,
        is_named=job.run is not None,
        text_template=job.text_template,
        any_codec=job.codec == "auto",
    )
    if run is None:
        return plan
    # The order of the run is its roster's, where the data set's new pictures come last.
    index_of = run.roster.extended(ids, extraction.dataset_path).index_of
    return replace(plan, indices=tuple(index_of[ref.id] for ref in refs), is_new=False)


def part_size(image_bytes: int) -> int:
    """Images a part: 32, or fewer where that many would not fit twice into memory (halved, down to
    one).
    """
    size = PART_IMAGES
    while size > 1 and size * image_bytes > PART_BYTES:
        size //= 2
    return size


def mean_image_bytes(
    model: Model,
    request: Request,
    refs: Sequence[ImageRef],
    prefixes: Sequence[str | None],
    view: RunView,
    source: FeatureSource | None = None,
) -> tuple[int, int]:
    """Mean bytes an image takes before compression, over up to PROBED_IMAGES spread over the split;
    and how many of them could be read. Their number of tokens may depend on their size (Qwen, full
    view).
    """
    from kvtool.engine.preparing import prepare_ref
    from kvtool.store.estimate import sample_bytes

    def sample(position: int) -> Sample:
        ref, prefix = refs[position], prefixes[position] or ""
        if source and ref.id in source.samples:
            return source.sample(cast("LanguageModel", model), ref.id, position, prefix)
        return prepare_ref(model, ref, position, prefix, view).sample

    # Spread over the split, since pictures of one size often stand together.
    step = max(1, len(refs) // PROBED_IMAGES)
    sizes = []
    for position in range(0, len(refs), step):
        with suppress(ImageError):
            sizes.append(sample_bytes(sample(position), model.info, request))
    return (sum(sizes) // len(sizes) if sizes else 0), len(sizes)

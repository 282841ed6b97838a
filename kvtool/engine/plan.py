"""What an extraction is: the job as the user asked for it, and the plan made of it before any weight is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from kvtool.engine.prefixes import condition_name, prefix_digest, prefix_texts
from kvtool.engine.reuse import Source, find_source
from kvtool.errors import ImageError, UsageError
from kvtool.store import RunConfig, hash_ids, part_name
from kvtool.store.layout import check_name
from kvtool.types import KeyPosition, Kind, Precision, View

if TYPE_CHECKING:
    from kvtool.datasets.base import Dataset, ImageRef
    from kvtool.models.base import LanguageModel, Model, Request
    from kvtool.store import Run
    from kvtool.types import Sample

PART_IMAGES = 32
PART_BYTES = 1_500_000_000
PROBED_IMAGES = 16


@dataclass(frozen=True)
class Job:
    """One `kvtool extract`, as plain data: it travels to worker processes and machines unchanged.

    layers: of the decoder, or of the tower for an encoder alone; None keeps all, or the tower's last.
    prefix: none, correct, incorrect, random, text:... (literal text before every image), or file:CSV (one an image).
    reuse: take what does not depend on the prefix from a run of the store that holds it, where there is one.
    limit: only the first N images of the split; a later run with a larger limit goes on from there.
    """

    store: str
    model: str
    dataset: str
    prefix: str = "none"
    kinds: tuple[Kind, ...] | None = None
    layers: tuple[int, ...] | None = None
    limit: int | None = None
    view: View = "base"
    keys: KeyPosition = "post-rope"
    dtype: Precision = "bfloat16"
    batch_size: int = 16
    attention: str = "sdpa"
    codec: Literal["lz4", "none"] = "lz4"
    run: str | None = None
    strict: bool = False
    reuse: bool = True


@dataclass(frozen=True)
class Plan:
    """A job resolved against its model and data set; `prefixes` has None where an image has no text. `source`: the run
    that features before the decoder are taken from, where it holds the image."""

    config: RunConfig
    request: Request
    refs: tuple[ImageRef, ...]
    prefixes: tuple[str | None, ...]
    texts: tuple[str, ...]
    image_bytes: int
    n_probed: int
    source: str | None = None

    def parts(self, covered: set[int]) -> list[tuple[int, ...]]:
        """Dataset indices still to do, a tuple a part. Parts never cross a block of `part_size` images, so that
        workers and later runs agree on them."""
        size = self.config.part_size
        blocks = (range(start, min(start + size, len(self.refs))) for start in range(0, len(self.refs), size))
        todo = (tuple(i for i in block if i not in covered) for block in blocks)
        return [part for part in todo if part]

    def within(self, run: Run) -> Plan:
        """The same plan in the blocks of a run that exists: they were laid out from the images its first call saw."""
        return replace(self, config=run.config)

    def claim_name(self, part: Sequence[int]) -> str:
        """What to claim for a part: its whole block, so that runs of other limits meet on the same claim."""
        start = part[0] // self.config.part_size * self.config.part_size
        return part_name(start, start + self.config.part_size)


def make_plan(job: Job, model: Model, dataset: Dataset) -> Plan:
    """Resolve a job. `model` needs no weights. Raises UsageError, DatasetError, RunConflictError later on creation."""
    request = model.request(job.kinds, job.layers, job.keys)
    if job.keys == "pre-rope" and "key" not in request.kinds:
        raise UsageError(
            f"--keys pre-rope: expected key to be kept, found {', '.join(request.kinds)}; leave --keys out"
        )
    every = dataset.images()
    if not every:
        raise UsageError(f"{job.dataset}: expected at least one image, found none; nothing to extract")
    if job.limit is not None and job.limit < 1:
        raise UsageError(f"--limit: expected a positive number of images, found {job.limit}")
    refs = tuple(every[: job.limit])
    every_prefix = prefix_texts(job.prefix, dataset, every)
    prefixes = every_prefix[: len(refs)]
    config = RunConfig(
        name=check_name(job.run, "run name") if job.run else "",
        model=model.info,
        dataset=dataset.name,
        dataset_path=str(dataset.root.resolve()) if dataset.root else None,
        split=dataset.split,
        ids_hash=hash_ids(ref.id for ref in every),
        n_images_total=len(every),
        prefix=condition_name(job.prefix),
        prefix_hash=prefix_digest(job.prefix, every_prefix),
        view=job.view,
        keys=job.keys,
        kinds=request.kinds,
        layers=request.layers,
        vision_layers=request.vision_layers,
        codec=job.codec,
    )
    source = find_source(job.store, config, range(len(refs))) if job.reuse else None
    image_bytes, n_probed = mean_image_bytes(model, request, refs, prefixes, job.view, source)
    config = replace(config, part_size=part_size(image_bytes))
    texts = tuple(dataset.texts()) if "value" in request.kinds else ()
    return Plan(config, request, refs, prefixes, texts, image_bytes, n_probed, source.run.name if source else None)


def part_size(image_bytes: int) -> int:
    """Images a part: 32, or fewer where that many would not fit twice into memory (halved, down to one)."""
    size = PART_IMAGES
    while size > 1 and size * image_bytes > PART_BYTES:
        size //= 2
    return size


def mean_image_bytes(
    model: Model,
    request: Request,
    refs: Sequence[ImageRef],
    prefixes: Sequence[str | None],
    view: View,
    source: Source | None = None,
) -> tuple[int, int]:
    """Mean bytes an image takes before compression, over up to PROBED_IMAGES spread over the split; and how many
    of them could be read. Their number of tokens may depend on their size (Qwen, full view)."""
    from kvtool.datasets.images import load_image
    from kvtool.store.estimate import sample_bytes

    def sample(index: int) -> Sample:
        ref, prefix = refs[index], prefixes[index] or ""
        if source and index in source.samples:
            return source.sample(cast("LanguageModel", model), index, prefix)
        return model.prepare(load_image(ref), id=ref.id, index=index, prefix=prefix, view=view).sample

    step = max(1, len(refs) // PROBED_IMAGES)
    sizes = []
    for index in range(0, len(refs), step):
        with suppress(ImageError):
            sizes.append(sample_bytes(sample(index), model.info, request))
    return (sum(sizes) // len(sizes) if sizes else 0), len(sizes)

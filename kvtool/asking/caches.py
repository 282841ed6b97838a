"""The run whose stored caches answer questions about images, extracted where no run serves."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.datasets import spec_of
from kvtool.datasets.base import DatasetBase, ImageRef, Question
from kvtool.datasets.identity import compare
from kvtool.engine.plan import Job
from kvtool.errors import BusyError, ModelError, UsageError
from kvtool.models.hub import resolve, same_model
from kvtool.progress import Progress
from kvtool.store import Run, RunConfig, Store, same_numbers
from kvtool.store.encoding import Bits
from kvtool.store.nonfinite import WHAT, count_nonfinite
from kvtool.store.run_arrays import TEXT_KINDS
from kvtool.store.shares import by_crew
from kvtool.types import Geometry, Kind

CACHE: tuple[Kind, ...] = ("key", "value")
"""The kinds from which a model can go on."""


def cache_kinds(geometry: Geometry) -> tuple[Kind, ...]:
    """Return the kinds from which a model goes on: where layers of linear attention hand on a
    state, its prompt runs again, from the projected tokens.
    """
    return (*CACHE, "projected") if geometry.recurrent else CACHE


WAIT_S = 600.0
"""How long to wait for images that another process is extracting."""


def find_base(
    store: Store, name: str | None, model: str | None, dataset: DatasetBase | None
) -> Run | None:
    """Return the run whose settings and model a knockout takes; None for a store without runs.

    The named run, else the only one that remains without those that an earlier knockout extracted
    for its questions ("<run>+pope") and those of other models; where several remain, the only one
    over `dataset`, if it is there. Raises UsageError.
    """
    if name is not None:
        return store.run(name)
    runs = store.first_runs()
    if model is not None:
        # Each wish narrows the choice only where something remains.
        runs = [run for run in runs if is_of_model(run.config, model)] or runs
    if len(runs) > 1 and dataset is not None:
        runs = [run for run in runs if run.config.dataset == dataset.name] or runs
    if len(runs) <= 1:
        return runs[0] if runs else None
    return store.run(None)


def is_of_model(config: RunConfig, model: str) -> bool:
    """Tell whether a run was extracted with a model: by its name, its folder, or the same weights
    at another place."""
    if model in (config.model.name, Path(config.model.name).name):
        return True
    try:
        return same_model(config.model, resolve(model, weights=False))
    except ModelError:
        return False


def is_whole(config: RunConfig) -> bool:
    """Tell whether a model can go on from the images of a run: what it needs of every layer is
    stored.
    """
    geometry = config.model.geometry
    has_kinds = set(cache_kinds(geometry)) <= set(config.kinds)
    return has_kinds and config.cached_layers == geometry.cached_layers


def serves(run: Run, base: Run, refs: Sequence[ImageRef]) -> bool:
    """Tell whether a run's images can stand for a benchmark's.

    They do where whole caches were stored with the base run's settings, and the pictures are the
    same by their digests. POPE asks about COCO's pictures, so that a run over COCO serves it too.
    """
    ours = run.config
    theirs = base.config
    same_settings = same_numbers(ours.model, theirs.model) and (ours.prefix, ours.view) == (
        theirs.prefix,
        theirs.view,
    )
    # Other weights, text before the image or another view give other keys and values.
    if not same_settings or not is_whole(ours):
        return False
    ids = {ref.id for ref in refs}
    pictures = [picture for picture in run.pictures if picture.id in ids]
    if not pictures:
        return False
    # By digest: an id is the same in several data sets, whatever picture it is of.
    difference = compare(pictures, refs)
    return not difference.changed


def holding_run(
    store: Store,
    base: Run | None,
    model: str | None,
    dataset: DatasetBase,
    refs: Sequence[ImageRef],
    device: str,
    progress: Progress,
) -> tuple[Run, dict[str, str]]:
    """Return the run that holds these pictures, and the reason of each failure by image id.

    Pictures that no run holds are extracted first. Raises BusyError where another process holds
    some of them.
    """
    # The base run comes first: where several serve, its pictures are the ones asked about.
    runs = [] if base is None else [base, *store.readable_runs(lambda run: run.name != base.name)]
    serving = [run for run in runs if base is not None and serves(run, base, refs)]
    # A picture whose file is absent can still be served from a cache: it is a failure only below.
    present = {ref.id for ref in refs if ref.path is None or ref.path.is_file()}
    absent = {ref.id: f"{ref.path}: no such file" for ref in refs if ref.id not in present}
    for run in serving:
        if present <= set(run.ids):
            return run, {image: reason for image, reason in absent.items() if image not in run.ids}
    # A run over this data set that lacks some pictures is continued rather than begun anew.
    started = next(
        (run for run in serving if run.config.dataset == dataset.name and _is_over(run, dataset)),
        None,
    )
    job = _job(store, started, base, model, dataset, len(refs))
    report = _extract(job, device, progress)
    run = store.run(report.run)
    failed = {failure.id: failure.reason for failure in report.failed.values()}
    # Pictures that other processes hold now are neither done nor failed.
    if busy := present - set(run.ids) - failed.keys():
        raise BusyError(
            f"run {run.name}: {len(busy)} images are held by another process: try again later"
        )
    return run, absent | failed


def _is_over(run: Run, dataset: DatasetBase) -> bool:
    """Tell whether a run was extracted from the folder where a data set lies."""
    return dataset.root is not None and run.place == str(dataset.root.resolve())


def unanswerable(run: Run, ids: Collection[str]) -> dict[str, str]:
    """Return the reasons by id of images whose stored caches hold values that are not finite.

    No model can say anything from such a cache. Only caches of parts that record such values are
    read.
    """
    # Parts record which arrays are not finite: all others need not be read.
    arrays = [array.name for kind in (*CACHE, *TEXT_KINDS) for array in run.config.arrays_of(kind)]
    parts = [part for part in run.parts() if any(part.nonfinite(name) for name in arrays)]
    reasons = {}
    for image in (sample.id for part in parts for sample in part.samples if sample.id in ids):
        if spoiled := spoiled_arrays(run.read_image(image, CACHE, raw=True)):
            reasons[image] = (
                f"run {run.name}, image {image}: expected a cache to ask from, found {WHAT} in "
                f"{', '.join(spoiled)}: extract it again, with --dtype bfloat16 where it is float16"
            )
    return reasons


def no_answer(question: Question) -> str:
    """Say why a question that has no answer is left out, for the line that names it."""
    return (
        f"question {question.id}: expected finite logits or caches to answer from, found {WHAT}; "
        "try another --dtype"
    )


def spoiled_arrays(arrays: Mapping[str, Bits]) -> list[str]:
    """Return the names of an image's arrays, as stored, that hold values that are not finite."""
    return [
        name for name, values in arrays.items() if count_nonfinite(np.ascontiguousarray(values))
    ]


def _job(
    store: Store,
    started: Run | None,
    base: Run | None,
    model: str | None,
    dataset: DatasetBase,
    limit: int,
) -> Job:
    """Describe what to extract: the rest of the benchmark's run, or a new one with the base run's
    settings."""
    spec = spec_of(dataset)
    # Without a run there are no settings to take over: the defaults hold.
    if base is None:
        if model is None:
            raise UsageError(
                f"store {store.address}: expected a run, found none; extract one, or give --model"
            )
        from kvtool.models import load_model

        geometry = load_model(model, weights=False).info.geometry
        return Job(store.address, model, spec, kinds=cache_kinds(geometry), limit=limit)
    # A run that is continued keeps its settings; a new one takes those of the base run.
    config = base.config if started is None else started.config
    kinds = cache_kinds(config.model.geometry)
    return Job(
        store=store.address,
        model=model or config.model.name,
        dataset=spec,
        prefix=config.prefix,
        kinds=kinds if started is None else config.kinds,
        limit=limit,
        view=config.view,
        keys=config.keys,
        dtype=config.model.dtype,
        attention=config.model.attention,
        codec=config.codec,
        size=config.input_size,
        system=config.system,
        run=None if started is None else started.name,
        stem=f"{base.name}+{dataset.name}",
    )


def _extract(job: Job, device: str, progress: Progress) -> Any:
    """Extract on one device, counting the images that are done."""
    from kvtool.engine.events import Event
    from kvtool.engine.local import extract
    from kvtool.engine.outcome import Report

    n_done = 0

    def begin(report: Report) -> None:
        """Say what is about to be extracted."""
        todo = report.n_images - report.n_before
        logging.getLogger("kvtool").info(
            "extracting %d images into run %s, to ask from their keys and values",
            todo,
            report.run,
        )

    def tell(event: Event) -> None:
        """Count the images that are done."""
        nonlocal n_done
        n_done += event.n if event.what == "done" else 0
        progress(0, f"extracted {n_done}")

    by_crew()  # what others extract is there when this process looks
    return extract(job, devices=(device,), wait_s=WAIT_S, tell=tell, begin=begin)

"""One worker of an extraction: a model on a device, doing what nobody else holds of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from kvtool.engine.checking import prove_first
from kvtool.engine.codec import choose_codec
from kvtool.engine.events import Tell
from kvtool.engine.pipeline import run_parts
from kvtool.engine.plan import Job, Plan
from kvtool.engine.reuse import FeatureSource, open_source
from kvtool.errors import BusyError, ModelError, UsageError
from kvtool.store.catalog import open_store
from kvtool.store.manifest import same_numbers

if TYPE_CHECKING:
    from kvtool.store import Run
    from kvtool.types import ModelInfo


def lacks_texts(plan: Plan, run: Run | None) -> bool:
    """Return whether text vectors of the plan are not stored yet."""
    return bool(plan.texts) and (run is None or run.texts(plan.text_template).lacks(plan.texts))


def resolve_devices(devices: Sequence[str], min_free_vram: int | None) -> tuple[str, ...]:
    """Names of usable devices of this machine.

    Raises UsageError where CUDA is not there, or a CPU was to have free VRAM; BusyError where too
    little of it is free.
    """
    import torch

    from kvtool.models.device import find_device
    from kvtool.models.device_names import parse_devices

    if tuple(devices) == ("auto",):
        devices = ("cuda:0",) if torch.cuda.is_available() else ("cpu",)
    # An explicit name is checked before any process is started for it.
    for name in devices:
        find_device(name)  # the first; all are looked at
    if min_free_vram is None:
        return tuple(devices)
    # Each of the devices that hold one model.
    for name in chain.from_iterable(parse_devices(worker).names for worker in devices):
        device = find_device(name)
        if device.type != "cuda":
            raise UsageError(
                f"--min-free-vram: expected a CUDA device, found {name}; leave it out, or name "
                "--devices"
            )
        free, total = torch.cuda.mem_get_info(device)
        if free < min_free_vram:
            raise BusyError(
                f"{name}: expected {min_free_vram / 1e9:.1f} GB of free memory, found "
                f"{free / 1e9:.1f} of "
                f"{total / 1e9:.1f}; try again later or choose another --devices"
            )
    return tuple(devices)


def work(job: Job, plan: Plan, device: str, tell: Tell) -> None:
    """One worker: load the model, see what the run still lacks, and do what nobody else holds."""
    from kvtool.models import load_model

    model = load_model(
        job.model,
        device=device,
        dtype=job.dtype,
        attention=job.attention,
        size=job.size,
        system=job.system,
        by_layer=job.by_layer,
    )
    store = open_store(job.store)
    check_same_model(plan.config.model, model.info)
    # Before the run is made: a refusal leaves none behind.
    is_empty = plan.is_new or not store.run(plan.config.name).samples
    # A run that holds pictures already was proven when its first ones were extracted.
    if job.check and is_empty:
        prove_first(plan, model)
    choose = partial(choose_codec, plan, model, store.path) if job.codec == "auto" else None
    run = plan.open_run(store, choose)
    plan = plan.within(run)
    # The source's record is read anew here, since a plan that travels holds its name alone.
    source = open_source(store.run(plan.source), plan.config, plan.refs) if plan.source else None
    write_texts(plan, run, model, source)
    # Parts committed by others since the plan was made are left out at once.
    todo = plan.parts(run.covered_indices())
    run_parts(
        plan,
        run,
        model,
        todo,
        batch_size=job.batch_size,
        strict=job.strict,
        tell=tell,
        source=source,
    )


def check_same_model(planned: ModelInfo, loaded: ModelInfo) -> None:
    """Raises ModelError where a worker's copy of the model is not the one that the plan was made
    with.
    """
    if not same_numbers(planned, loaded):
        raise ModelError(
            f"model {loaded.name}: expected revision {planned.revision}, with which the run was "
            "planned, found "
            f"{loaded.revision} here; give every worker the same files"
        )


TEXT_CLAIM = "text"


def write_texts(plan: Plan, run: Run, model: Any, source: FeatureSource | None = None) -> None:
    """Vectors of the data set's class names and expressions, once a run; another worker may be at
    it.
    """
    if lacks_texts(plan, run):
        with contextlib.suppress(BusyError), run.claim(TEXT_CLAIM):
            # Committed by another worker between the question and the claim?
            if not lacks_texts(plan, run):
                return
            # Vectors of the same texts in the source cost no pass of the model.
            vectors = (
                source.text_vectors(plan.config, plan.texts, plan.text_template) if source else None
            )
            if vectors is None:
                vectors = model.text_vectors(
                    plan.texts, plan.request.layers, plan.request.kinds, plan.text_template
                )
            run.commit_text(plan.texts, vectors.arrays, plan.text_template, vectors.token_counts)

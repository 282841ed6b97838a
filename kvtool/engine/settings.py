"""The settings of a new run, and what a user gets who chooses no layers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvtool.engine.prefixes import condition_name
from kvtool.errors import UsageError
from kvtool.models.families import TOWERS, last_norm
from kvtool.store import Choice, RunConfig
from kvtool.store.layout import check_name

if TYPE_CHECKING:
    from kvtool.engine.match import Extraction
    from kvtool.models.base import Model, Request
    from kvtool.store import Run, Store


@dataclass(frozen=True)
class Selection:
    """Which arrays a run keeps, and what its model gives a user who chooses nothing.

    beside: of an encoder, the model whose tower says which layers are its default; else empty.
    """

    request: Request
    default: Request
    beside: str = ""


def select_arrays(
    extraction: Extraction, model: Model, run: Run | None, store: Store | None
) -> Selection:
    """Return what an extraction keeps. Raises UsageError for what the model does not offer."""
    job = extraction.job
    default = model.request(None, None, job.keys)
    beside, layers = "", job.layers
    # No decoder layers means an encoder alone: its choice of layers is one of the tower's.
    if not default.layers:
        vision_layers, beside = _default_of_encoder(default, model, extraction, run, store)
        default = replace(default, vision_layers=vision_layers)
        layers = vision_layers if layers is None else layers
    request = model.request(job.kinds, layers, job.keys)
    if job.keys == "pre-rope" and "key" not in request.kinds:
        raise UsageError(
            f"--keys pre-rope: expected key to be kept, found {', '.join(request.kinds)}; leave "
            "--keys out"
        )
    is_default = request.vision_layers == default.vision_layers
    return Selection(request, default, beside if is_default else "")


def _default_of_encoder(
    default: Request, model: Model, extraction: Extraction, run: Run | None, store: Store | None
) -> tuple[tuple[int, ...], str]:
    """Return the layers that an encoder keeps by default, and the model that they are those of.

    An encoder is compared with multimodal models whose tower came from it, over the same images:
    its default are then the layers that feed their projectors, not its last. A run goes on with the
    default that it was made with.
    """
    if run is not None:
        return run.config.defaults.vision_layers, run.config.beside
    info, dataset = model.info, extraction.dataset
    # Stored models whose tower is of this family, over the same images: those to compare with.
    towers = [
        stored.config
        for stored in (store.readable_runs() if store else ())
        if TOWERS.get(stored.config.model.family) == info.family
        and (stored.config.dataset, stored.config.split) == (dataset.name, dataset.split)
        and stored.config.model.geometry.vision_dim == info.geometry.vision_dim
    ]
    layers = sorted({layer for config in towers for layer in config.defaults.vision_layers})
    # Equal family and width still leave towers of another depth, whose layers do not exist here.
    if not layers or layers[-1] >= info.geometry.vision_layers:
        return default.vision_layers, ""
    names = ", ".join(sorted({config.model.name for config in towers}))
    if extraction.job.layers is None:
        logging.getLogger("kvtool").info(
            "of %s the tower's layers %s, from which %s feeds, are stored (--layers)",
            info.name,
            ", ".join(map(str, layers)),
            names,
        )
    return tuple(layers), names


def new_config(
    extraction: Extraction, model: Model, selection: Selection, store: Store | None
) -> RunConfig:
    """The settings of a new run, with a name that no run of the store has."""
    job, dataset = extraction.job, extraction.dataset
    request, default = selection.request, selection.default
    geometry = model.info.geometry
    # An encoder's last layer is kept after the norm that its class puts behind it.
    norm = last_norm(
        model.info.family, not geometry.layers, geometry.vision_layers, request.vision_layers
    )
    config = RunConfig(
        name="",
        model=model.info,
        dataset=dataset.name,
        dataset_path=extraction.dataset_path,
        split=dataset.split,
        prefix=condition_name(job.prefix),
        view=job.view,
        keys=job.keys,
        kinds=request.kinds,
        layers=request.layers,
        vision_layers=request.vision_layers,
        # Until it is measured, the one that needs more room.
        codec="none" if job.codec == "auto" else job.codec,
        defaults=Choice(default.kinds, default.layers, default.vision_layers),
        vision_norm=norm,
        image_size=job.size.image_size,
        min_pixels=job.size.min_pixels,
        max_pixels=job.size.max_pixels,
        system=job.system,
        beside=selection.beside,
    )
    # A name that the user chose stays as it is; one made of the settings gets a number if taken.
    stem = check_name(job.run or job.stem or config.run_name, "run name")
    return replace(config, name=store.free_name(stem) if store and not job.run else stem)

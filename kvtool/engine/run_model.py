"""The model that a run was extracted with, loaded again to go on from what the run holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvtool.engine.worker import resolve_devices
from kvtool.errors import ModelError, UsageError
from kvtool.store.stored_run import StoredRun
from kvtool.types import Precision

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel


def load_run_model(
    run: StoredRun,
    model: str | None = None,
    device: str = "auto",
    *,
    dtype: Precision | None = None,
    attention: str = "sdpa",
) -> LanguageModel:
    """Load the language model of a run.

    Args:
        run: the run.
        model: the model's place, if the run's name of it does not say it.
        device: auto, cpu, cuda or cuda:N.
        dtype: the precision of the weights, by default the run's.
        attention: the attention backend, as in load_model.

    Raises ModelError where it is not there or not the one that the run was extracted with,
    UsageError where the run is of an encoder alone.
    """
    from kvtool.models import load_model
    from kvtool.models.base import LanguageModel

    info = run.config.model
    (device_name,) = resolve_devices((device,), min_free_vram=None)
    loaded = load_model(
        model or info.name,
        device=device_name,
        dtype=dtype or info.dtype,
        attention=attention,
        size=run.config.input_size,
        system=run.config.system,
    )
    # Another revision has other weights, whose vectors have nothing to do with the stored ones.
    if loaded.info.revision != info.revision:
        raise ModelError(
            f"model {loaded.info.name}: expected revision {info.revision}, with which run "
            f"{run.name} was extracted, found {loaded.info.revision}; give the folder that "
            "holds it with --model, or extract anew"
        )
    if not isinstance(loaded, LanguageModel):
        raise UsageError(
            f"run {run.name}: expected a language model to ask, found the encoder {info.name}"
        )
    return loaded

"""From a snapshot to its parts: configuration, network, tokenizer, image processor. transformers classes only."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pickle import UnpicklingError
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn

from kvtool.errors import ModelError, UsageError
from kvtool.models import FAMILIES
from kvtool.models.base import Model
from kvtool.models.device import find_device, find_dtype
from kvtool.models.hub import Snapshot, nearest, one_line, read_json, resolve
from kvtool.types import Geometry, ModelInfo, Precision

BROKEN = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError),
    *(UnpicklingError, SafetensorError, StrictDataclassError),
)
"""What transformers raises over files that are cut short, of another model, or not what they are called."""
ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")


@dataclass(frozen=True)
class Settings:
    """How a model is run."""

    device: str = "cpu"
    dtype: Precision = "bfloat16"
    attention: str = "sdpa"


def load(name: str, settings: Settings, weights: bool) -> Model:
    """See kvtool.models.load_model."""
    find_dtype(settings.dtype)
    find_device(settings.device)
    if settings.attention not in ATTENTIONS:
        raise UsageError(f"attention: expected one of {', '.join(ATTENTIONS)}, found {settings.attention!r}")
    snapshot = resolve(name, weights)
    model_type = read_json(snapshot.path / "config.json").get("model_type")
    if model_type not in FAMILIES.table:
        raise ModelError(f"model {name}: config.json: {FAMILIES.unknown(str(model_type))}; {nearest(name)}")
    family = FAMILIES.load(model_type)
    return cast(Model, family(Checkpoint(snapshot, settings, weights)))


@dataclass(frozen=True)
class Checkpoint:
    """A resolved model that can be read piece by piece; every error names the model."""

    snapshot: Snapshot
    settings: Settings
    weights: bool

    @cached_property
    def device(self) -> torch.device:
        return find_device(self.settings.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        return find_dtype(self.settings.dtype)

    def info(self, family: str, geometry: Geometry) -> ModelInfo:
        snapshot, settings = self.snapshot, self.settings
        return ModelInfo(snapshot.name, snapshot.revision, family, geometry, settings.dtype, settings.attention)

    def config(self, network: Any) -> Any:
        """The configuration of a transformers network class; of a composite checkpoint, the part it is for."""
        with self._reading("a readable config.json"):
            return network.config_class.from_pretrained(self.snapshot.path, local_files_only=True)

    def network(self, network: Any, config: Any, **options: Any) -> nn.Module:
        """The network on the device, in evaluation mode and the asked precision; its shape alone without weights."""
        if not self.weights:
            with torch.device("meta"):
                return cast(nn.Module, network(config, **options).eval())
        with self._reading(f"weights of its configuration, run with attention {self.settings.attention}"):
            loaded, report = network.from_pretrained(
                self.snapshot.path,
                config=config,
                dtype=self.dtype,
                attn_implementation=self.settings.attention,
                local_files_only=True,
                weights_only=True,
                output_loading_info=True,
                **options,
            )
        if missing := sorted(report["missing_keys"]):
            raise ModelError(
                f"model {self.snapshot.name}: expected weights of every layer, found none for {missing[0]} "
                f"and {len(missing) - 1} others; the checkpoint is incomplete or of another architecture"
            )
        return cast(nn.Module, loaded.to(self.device).eval())

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with self._reading("a tokenizer (tokenizer.json, tokenizer_config.json)"):
            return AutoTokenizer.from_pretrained(self.snapshot.path, local_files_only=True, trust_remote_code=False)

    def processor(self, processor: Any) -> Any:
        """An image processor of the given class, which pins its PIL backend."""
        with self._reading("an image processor (preprocessor_config.json)"):
            return processor.from_pretrained(self.snapshot.path, local_files_only=True)

    @contextmanager
    def _reading(self, expected: str) -> Iterator[None]:
        """Quiet transformers, and turn what it raises over a broken checkpoint into one line."""
        with quiet():
            try:
                yield
            except BROKEN as error:
                raise ModelError(
                    f"model {self.snapshot.name}: expected {expected}, found: {type(error).__name__}: {one_line(error)}"
                ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, log lines or warnings of transformers: what matters of a load is checked here."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

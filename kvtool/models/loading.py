"""From a snapshot to its parts: configuration, network, tokenizer, image processor.

transformers classes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast, get_args

import torch
from PIL import Image
from torch import nn

from kvtool.digests import digest_texts
from kvtool.errors import ImageError, KvtoolError, ModelError, UsageError
from kvtool.models.base import Model
from kvtool.models.chat_templates import check_system
from kvtool.models.device import find_device, find_dtype
from kvtool.models.families import family_class
from kvtool.models.faults import described, is_out_of_memory, quiet
from kvtool.models.files import CONFIG, PROCESSORS, has_processor, has_tokenizer, read_json
from kvtool.models.hub import Snapshot, resolve
from kvtool.models.networks import load_network, smaller
from kvtool.models.quantization import quantization_of, quantization_text
from kvtool.models.sizes import MOST_PIXELS, check_input, largest_input
from kvtool.models.unserved import foreign_processor, is_common, is_served, unknown_type
from kvtool.types import Geometry, InputSize, ModelInfo, Precision, View

ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")
MOST_LAYERS = 1024
LAYER_COUNTS = ("num_hidden_layers", "depth", "num_layers", "n_layers")


@dataclass(frozen=True)
class ModelSettings:
    """How a model is run.

    device: one device, or several that hold the model together (kvtool.models.device_names).
    by_layer: whether the decoder's layers stay on disk, and pass through the device in turn.
    """

    device: str = "cpu"
    dtype: Precision = "bfloat16"
    attention: str = "sdpa"
    size: InputSize = field(default_factory=InputSize)
    system: str = ""
    by_layer: bool = False


def load(name: str, settings: ModelSettings, weights: bool) -> Model:
    """See kvtool.models.load_model."""
    # What is wrong with the settings is said before any file is looked for.
    find_dtype(settings.dtype)
    find_device(settings.device)
    if settings.attention not in ATTENTIONS:
        raise UsageError(
            f"attention: expected one of {', '.join(ATTENTIONS)}, found {settings.attention!r}"
        )
    snapshot = resolve(name, weights)
    config = read_json(snapshot.path / CONFIG)
    model_type = str(config.get("model_type"))
    if not is_served(config) and not is_common(config):
        raise ModelError(f"model {name}: config.json: {unknown_type(config)}")
    check_layers(name, config)
    checkpoint = Checkpoint(snapshot, settings, weights)
    with checkpoint.reading(f"classes of {model_type} in transformers"):
        family = family_class(model_type)
    # Settings that the family cannot follow are refused before weights are read.
    check_size_options(name, family, settings.size)
    check_system(name, family, settings.system)
    with checkpoint.reading(f"files of one {model_type} checkpoint"):
        model = cast(Model, family(checkpoint))
        _try_image(name, model)
    return model


def _try_image(name: str, model: Model) -> None:
    """Prepare a gray image: what is wrong with an image processor is found now, and not once a
    picture.
    """
    for view in get_args(View):
        try:
            model.prepare(Image.new("RGB", (64, 48), "gray"), id="gray", index=0, view=view)
        except ImageError as error:
            reason = described(error.__cause__ or error)
            raise ModelError(
                f"model {name}: expected an image processor (preprocessor_config.json) that takes "
                "any image, found: "
                f"{reason}; fetch the file again"
            ) from error


def check_size_options(name: str, family: Any, size: InputSize) -> None:
    """Raises UsageError where pictures cannot be brought to a size for models of a family."""
    check_input(size)
    options: tuple[str, ...] = getattr(family, "size_options", ())
    if unable := [option for option in size.given if option not in options]:
        flags = ", ".join(f"--{option.replace('_', '-')}" for option in options)
        raise UsageError(
            f"--{unable[0].replace('_', '-')}: expected a model whose input size can be chosen so, "
            f"found {name}, a {family.family}, which takes {flags or 'pictures at one size alone'};"
            " leave it out"
        )


def check_layers(name: str, config: Any) -> None:
    """Raises ModelError where a configuration, or a part of it, counts more layers than any model
    has.
    """
    # A damaged count would make transformers build layers until memory ends.
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in LAYER_COUNTS:
            count = part.get(key)
            if isinstance(count, int | float) and not 0 <= count <= MOST_LAYERS:
                raise ModelError(
                    f"model {name}: config.json: expected {key} of 0 to {MOST_LAYERS}, found "
                    f"{str(count)[:20]}; "
                    "fetch the file again"
                )


@dataclass(frozen=True)
class Checkpoint:
    """A resolved model that can be read piece by piece; every error names the model."""

    snapshot: Snapshot
    settings: ModelSettings
    weights: bool

    @cached_property
    def device(self) -> torch.device:
        """Return the device of the inputs, the first where several hold the model."""
        return find_device(self.settings.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Return the precision of the weights."""
        return find_dtype(self.settings.dtype)

    def info(self, family: str, geometry: Geometry, template: str = "") -> ModelInfo:
        """What a run records; `template` is the chat template that lays out prompts."""
        snapshot, settings = self.snapshot, self.settings
        return ModelInfo(
            snapshot.name,
            snapshot.revision,
            family,
            geometry,
            settings.dtype,
            settings.attention,
            digest_texts([template])[:16] if template else "",
            snapshot.commit,
            quantization_text(self.quantization),
        )

    def config(self, network: Any) -> Any:
        """The configuration of a transformers network class; of a composite checkpoint, the part it
        is for.
        """
        with self.reading("a readable config.json"):
            return network.config_class.from_pretrained(self.snapshot.path, local_files_only=True)

    def network(self, network: Any, config: Any, **options: Any) -> nn.Module:
        """The network on its devices, in evaluation mode and the asked precision; its shape alone
        without weights.
        """
        # On no device first: the shape is what memory is reckoned by.
        with self.reading("a network of its configuration"), torch.device("meta"):
            shape = cast(nn.Module, network(config, **options).eval())
        if not self.weights:
            return shape
        return load_network(self, network, config, shape, options)

    @cached_property
    def quantization(self) -> dict[str, Any]:
        """What config.json says of how weights are quantized; empty where they are not."""
        return quantization_of(read_json(self.snapshot.path / CONFIG))

    def tokenizer(self) -> Any:
        """Return the checkpoint's tokenizer."""
        from transformers import AutoTokenizer

        self._expect(has_tokenizer(self.snapshot.path), "a tokenizer (tokenizer.json)")
        with self.reading("a tokenizer (tokenizer.json, tokenizer_config.json)"):
            return AutoTokenizer.from_pretrained(
                self.snapshot.path, local_files_only=True, trust_remote_code=False
            )

    def processor(self, processor: Any) -> Any:
        """An image processor of the given class, which pins its PIL backend."""
        self._expect(
            has_processor(self.snapshot.path), "an image processor (preprocessor_config.json)"
        )
        # A processor of code of its own is not run.
        settings = self.snapshot.path / PROCESSORS[0]
        if settings.is_file() and (reason := foreign_processor(read_json(settings))):
            raise ModelError(f"model {self.snapshot.name}: {settings.name}: {reason}")
        with self.reading("an image processor (preprocessor_config.json)"):
            image_processor = processor.from_pretrained(self.snapshot.path, local_files_only=True)
            if (pixels := largest_input(image_processor)) > MOST_PIXELS:
                raise ValueError(
                    f"an input of {pixels:.6g} pixels, more than the {MOST_PIXELS} that are allowed"
                )
            return image_processor

    def _expect(self, is_there: bool, what: str) -> None:
        if not is_there:
            raise ModelError(
                f"model {self.snapshot.name}: expected {what}, found no such file; copy or "
                "download the rest"
            )

    @contextmanager
    def reading(self, expected: str) -> Iterator[None]:
        """Quiet transformers, and turn what it raises over a damaged checkpoint into one line: a
        ModelError.
        """
        with quiet():
            try:
                yield
            except KvtoolError:
                raise
            except BaseException as error:
                if is_out_of_memory(error):
                    raise ModelError(
                        f"model {self.snapshot.name}: expected {expected} to fit "
                        f"{self.settings.device}, found no "
                        f"memory left; {smaller(self.settings)}"
                    ) from error
                # tokenizers are written in Rust: a panic there is no Exception.
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                raise ModelError(
                    f"model {self.snapshot.name}: expected {expected}, found: {described(error)}"
                ) from error

    @contextmanager
    def running(self) -> Iterator[None]:
        """Turn what a forward pass raises, but for a device that is full, into one line: a
        ModelError.
        """
        try:
            yield
        except (KvtoolError, MemoryError, torch.OutOfMemoryError, AssertionError):
            raise
        except Exception as error:
            raise ModelError(
                f"model {self.snapshot.name}: expected a forward pass of its configuration, found: "
                f"{described(error)}"
            ) from error

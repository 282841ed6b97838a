"""Loaded weights, checked: that all the network needs were there, that none was left over, that
weights in 8 bits have scales, that all are finite.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from kvtool.errors import ModelError

_HARMLESS = re.compile(r"(^|\.)(position_ids|inv_freq|mask_token|num_batches_tracked)$")
"""Buffers that networks of today compute themselves, and the token of masked pretraining."""
_LISTED = 3


def check_missing(name: str, keys: Iterable[str]) -> None:
    """Raises ModelError where the network has weights that the checkpoint lacks."""
    if absent := sorted(keys):
        raise ModelError(
            f"model {name}: expected weights of every layer, found none for {absent[0]} and "
            f"{len(absent) - 1} others; "
            "the checkpoint is incomplete or of another architecture"
        )


def check_shapes(name: str, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Raises ModelError where weights, (name, shape in the file, shape in the network), do not fit
    the network.
    """
    if mismatches := sorted(mismatched):
        key, stored, expected = mismatches[0]
        raise ModelError(
            f"model {name}: expected weights of its configuration, {tuple(expected)} for {key}, "
            f"found {tuple(stored)}, "
            f"and {len(mismatches) - 1} others of another shape; take config.json and weights "
            "from one "
            "checkpoint"
        )


def check_unexpected(name: str, network: nn.Module, unexpected: Iterable[str]) -> None:
    """Raises ModelError where the checkpoint has weights that would change what the network
    computes.

    Whole modules that the network does without are no fault: the text model beside an encoder, a
    pooling head of a tower, a task's head. Weights of modules that it has are: scales of quantized
    weights, adapters, norms inside a layer, more layers than the configuration counts.
    """
    modules = {module_name for module_name, _ in network.named_modules()}
    ignored = sorted(key for key in unexpected if _changes_values(network, modules, key))
    if ignored:
        raise ModelError(
            f"model {name}: expected weights of its configuration alone, found {len(ignored)} that "
            "it has no place "
            f"for, {', '.join(ignored[:_LISTED])}{', ...' if len(ignored) > _LISTED else ''}; take "
            "the checkpoint whose "
            "config.json says how its weights are stored (scales, adapters, layers), or its plain "
            "version"
        )


def _changes_values(network: nn.Module, modules: set[str], key: str) -> bool:
    """Return whether a weight that the network has no place for would change what its modules
    compute.
    """
    if _HARMLESS.search(key):
        return False
    owner = key.rpartition(".")[0]
    parent = owner
    # The nearest module of the network that the weight lies in.
    while parent and parent not in modules:
        parent = parent.rpartition(".")[0]
    if not parent:
        return False  # beside the network: another tower, a head, a logit scale
    module = network.get_submodule(parent)
    # In a module that is there, or within a layer, its absence changes what is computed.
    is_parameter = parent == owner
    is_inside = isinstance(module, nn.ModuleList) or not any(module.children())
    is_in_layer = any(part.isdigit() for part in parent.split("."))
    return is_parameter or is_inside or is_in_layer


def check_scales(name: str, network: nn.Module) -> None:
    """Raises ModelError where a module has a weight in 8-bit floats without a scale, which such
    numbers mean nothing without: transformers leaves them so where the checkpoint has none.
    """
    unscaled = sorted(
        f"{owner}.{key}"
        for owner, module in network.named_modules()
        for key, weight in module.named_parameters(recurse=False)
        if _is_8_bit_float(weight) and not _has_scale(module)
    )
    if unscaled:
        raise ModelError(
            f"model {name}: expected a scale beside its weights in 8 bits, as the "
            f"quantization_config of config.json has it, found none for {unscaled[0]} and "
            f"{len(unscaled) - 1} others; fetch the checkpoint again, or take its plain version"
        )


def _has_scale(module: nn.Module) -> bool:
    states = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return any("scale" in key for key, _ in states)


def _is_8_bit_float(weight: torch.Tensor) -> bool:
    """Return whether numbers are stored as 8-bit floats, and not by a library's own tensors."""
    is_plain = type(weight.data) is torch.Tensor
    return is_plain and weight.is_floating_point() and weight.dtype.itemsize == 1


def warn_of_values(name: str, network: nn.Module) -> None:
    """Warn, in one line, of weights that are not finite: what is computed with them is not finite
    either.
    """
    broken = [key for key, weight in network.named_parameters() if not _is_finite(weight)]
    if broken:
        logging.getLogger("kvtool").warning(
            "model %s: %d of its weights are not finite (NaN or infinite), first %s; what it "
            "computes will not be "
            "finite either: fetch the checkpoint again, or load it in another precision",
            name,
            len(broken),
            broken[0],
        )


def _is_finite(weight: torch.Tensor) -> bool:
    """Return whether all values are finite; smallest and largest tell, in one pass without a
    copy. Of weights that wait on disk, and of quantized ones, nothing is told.
    """
    is_plain = type(weight.data) is torch.Tensor and not weight.is_meta
    if not is_plain or not weight.is_floating_point() or weight.numel() == 0:
        return True
    if _is_8_bit_float(weight):
        return True
    # A NaN makes both of them NaN.
    smallest, largest = torch.aminmax(weight.detach())
    return bool(smallest.isfinite() & largest.isfinite())

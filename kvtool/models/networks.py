"""A network's weights brought to the devices that hold it, where they fit; said before loading
where they do not.
"""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from torch import nn

from kvtool.errors import ModelError, UsageError
from kvtool.models.device import find_device
from kvtool.models.device_names import Devices, parse_devices
from kvtool.models.files import weight_files
from kvtool.models.layer_weights import LayerWeights
from kvtool.models.linear_layers import multiply_in_single_precision
from kvtool.models.memory import free_bytes, network_bytes
from kvtool.models.placement import (
    DISK,
    SHARE,
    Blocks,
    blocks_of,
    decoder_layers,
    device_map,
    spread,
)
from kvtool.models.quantization import check_libraries
from kvtool.models.weights import (
    check_missing,
    check_scales,
    check_shapes,
    check_unexpected,
    warn_of_values,
)

if TYPE_CHECKING:
    from kvtool.models.loading import Checkpoint, ModelSettings


@dataclass(frozen=True)
class _Allocation:
    """Where a network goes: its parts by name, as transformers takes them; None for the host."""

    parts: Mapping[str, str] | None
    folder: str | None = None


def load_network(
    checkpoint: Checkpoint, network: Any, config: Any, shape: nn.Module, options: dict[str, Any]
) -> nn.Module:
    """Return a network on its devices, in evaluation mode. See Checkpoint.network.

    Weights go straight to their device where accelerate is there, else by way of the host.
    """
    name, settings = checkpoint.snapshot.name, checkpoint.settings
    # Room is looked at first: a load that does not fit may end the process, or the machine.
    allocation = _allocation(checkpoint, shape)
    with checkpoint.reading(
        f"weights of its configuration, run with attention {settings.attention}"
    ):
        loaded, report = network.from_pretrained(
            checkpoint.snapshot.path,
            config=config,
            dtype=checkpoint.dtype,
            attn_implementation=settings.attention,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below, by name
            device_map=allocation.parts,
            offload_folder=allocation.folder,
            **options,
        )
        # Without accelerate weights are loaded on the host, and then moved.
        if allocation.parts is None:
            loaded = loaded.to(checkpoint.device)
        loaded = cast(nn.Module, loaded.eval())
    # What the file has and what the network takes must be the same weights, name by name.
    check_shapes(name, report["mismatched_keys"])
    check_missing(name, report["missing_keys"])
    check_unexpected(name, loaded, report["unexpected_keys"])
    check_scales(name, loaded)
    warn_of_values(name, loaded)
    multiply_in_single_precision(loaded)
    if settings.by_layer:
        layers = decoder_layers(loaded)
        assert layers is not None, "an encoder alone was refused"
        network_with_layers: Any = loaded
        network_with_layers.layer_weights = LayerWeights(layers, checkpoint.device)
    return loaded


def _allocation(checkpoint: Checkpoint, shape: nn.Module) -> _Allocation:
    """Return where a network goes.

    Raises ModelError where it does not fit, UsageError where a package is missing or the devices
    are not for such a network.
    """
    name, settings = checkpoint.snapshot.name, checkpoint.settings
    devices = parse_devices(settings.device)
    if checkpoint.quantization:
        check_libraries(name, checkpoint.quantization)
    if not devices.are_joined and not settings.by_layer:
        _check_room(checkpoint, shape)
        # Plain weights on the CPU are loaded there in any case.
        is_direct = bool(checkpoint.quantization) or checkpoint.device.type != "cpu"
        on_device = {"": str(checkpoint.device)}
        return _Allocation(on_device if is_direct and has_accelerate() else None)
    layers = decoder_layers(shape)
    option = "--by-layer" if settings.by_layer else f"--devices {settings.device}"
    if layers is None:
        raise UsageError(
            f"{option}: expected a model with a decoder, whose layers can stand apart, found "
            f"{name}, an encoder alone; name one device"
        )
    if not has_accelerate():
        raise UsageError(
            f"{option}: expected the package accelerate, which brings layers to their devices, "
            "found none; pip install 'kvtool[accelerate]'"
        )
    blocks = blocks_of(shape, layers, checkpoint.dtype)
    numbers = (_by_layer if settings.by_layer else _spread)(checkpoint, devices, blocks)
    names = [str(find_device(device)) for device in devices.names]
    return _Allocation(device_map(blocks, names, numbers), _scratch(devices.folder))


def has_accelerate() -> bool:
    """Return whether weights can go straight to their device."""
    return find_spec("accelerate") is not None


def _spread(checkpoint: Checkpoint, devices: Devices, blocks: Blocks) -> list[int]:
    """Return the number of each layer's device. Raises ModelError where there is no room."""
    if checkpoint.quantization:
        # Quantized layers take about what they take on disk, each its part.
        scale = _file_bytes(checkpoint) / (blocks.trunk_bytes + sum(blocks.layer_bytes))
        layer_bytes = tuple(int(n * scale) for n in blocks.layer_bytes)
        blocks = Blocks(blocks.layers, blocks.trunk, layer_bytes, int(blocks.trunk_bytes * scale))
    # Free memory is asked for once, before anything of the model is there.
    free = [free_bytes(find_device(device)) for device in devices.names]
    n_gpus = sum(device != "cpu" for device in devices.names)
    rooms = [int(room * SHARE) for room in free]
    numbers = spread(blocks, rooms, n_gpus, devices.folder is not None)
    if numbers is None:
        # All devices together may have room enough where the first has not.
        if blocks.trunk_bytes > rooms[0]:
            location = f"{devices.names[0]}, which holds all but the layers"
            _refuse(checkpoint, blocks.trunk_bytes, location, rooms[0])
        needed = blocks.trunk_bytes + sum(blocks.layer_bytes)
        _refuse(checkpoint, needed, "+".join(devices.names), sum(free))
    return numbers


def _by_layer(checkpoint: Checkpoint, devices: Devices, blocks: Blocks) -> list[int]:
    """Return the disk's number for each layer, two of which are on the device at a time.

    Raises ModelError where there is no room for these, UsageError for several devices, for
    quantized weights and for those of a pickle.
    """
    name = checkpoint.snapshot.name
    if len(devices.names) > 1:
        raise UsageError(
            f"--by-layer: expected one device, through which all layers pass, found "
            f"{'+'.join(devices.names)}; name the first alone"
        )
    if checkpoint.quantization:
        raise UsageError(
            f"--by-layer: expected plain weights, which can be read layer by layer, found {name}, "
            "whose weights are quantized; take its plain version, or join devices (--devices)"
        )
    files = weight_files(checkpoint.snapshot.path)
    if devices.folder is None and not all(file.endswith(".safetensors") for file in files):
        raise UsageError(
            f"--by-layer: expected weights in safetensors, of which layers can be read alone, "
            f"found {files[0]}; give a folder to write them to: --devices "
            f"{devices.names[0]}+disk:DIR"
        )
    # One layer runs while the next one is read.
    needed = blocks.trunk_bytes + 2 * max(blocks.layer_bytes)
    free = free_bytes(checkpoint.device)
    if needed > free:
        _refuse(checkpoint, needed, f"{checkpoint.device}, two layers at a time", free)
    return [len(devices.names)] * len(blocks.layers)


def _scratch(folder: str | None) -> str | None:
    """Return a folder of this process's own within one that a user named, which goes when the
    process ends.
    """
    if folder is None:
        return None
    # A folder of the process's own, since several may name the same one.
    scratch = Path(folder).expanduser() / f"kvtool-{os.getpid()}"
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return str(scratch)


def _check_room(checkpoint: Checkpoint, shape: nn.Module) -> None:
    """Raises ModelError unless the weights fit the device, and the machine where they reach it by
    way of the host.
    """
    needed = network_bytes(shape, checkpoint.dtype)
    if checkpoint.quantization:
        needed = _file_bytes(checkpoint)
    # Loaded by way of the host, weights must fit there as well.
    by_way = () if has_accelerate() else (torch.device("cpu"),)
    for device in dict.fromkeys((*by_way, checkpoint.device)):
        free = free_bytes(device)
        if needed > free:
            _refuse(checkpoint, needed, str(device), free)


def _file_bytes(checkpoint: Checkpoint) -> int:
    """Return the bytes of the files of weights."""
    folder = checkpoint.snapshot.path
    return sum((folder / name).stat().st_size for name in weight_files(folder))


def _refuse(checkpoint: Checkpoint, needed: int, location: str, free: int) -> NoReturn:
    precision = "their quantization" if checkpoint.quantization else checkpoint.settings.dtype
    raise ModelError(
        f"model {checkpoint.snapshot.name}: expected room for {needed / 1e9:.2f} GB of weights in "
        f"{precision} on {location}, found {free / 1e9:.2f} GB free; {smaller(checkpoint.settings)}"
    )


def smaller(settings: ModelSettings) -> str:
    """Return what to do where weights do not fit."""
    halved = "load it in bfloat16, " if settings.dtype == "float32" else ""
    first = parse_devices(settings.device).names[0]
    joined = f"{first}+{DISK}:DIR" if first == "cpu" else f"{first}+cpu"
    hint = f"spread it (--devices {joined}), extract it layer by layer (--by-layer)"
    return f"{halved}free memory, {hint}, or take a smaller model"

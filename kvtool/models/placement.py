"""Which device holds which part of a network, where one device does not hold all of it.

The layers of the decoder are spread over the devices in their order; all the rest (tower,
projector, embeddings, head) stands on the first, where inputs go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kvtool.models.memory import network_bytes

DISK = "disk"
COMPUTES_ON = "computes_on"
"""The attribute of a module whose weights wait on disk that says where they are brought to."""
SHARE = 0.9
"""Of a device's free memory, what weights may take: passes need room, too."""


@dataclass(frozen=True)
class Blocks:
    """The parts of a network that are placed one by one.

    Attributes:
        layers: Names of the decoder's layers.
        trunk: Names of all other modules and parameters, none within another.
        layer_bytes: What each layer takes.
        trunk_bytes: What all of these take.
    """

    layers: tuple[str, ...]
    trunk: tuple[str, ...]
    layer_bytes: tuple[int, ...]
    trunk_bytes: int


def decoder_layers(network: Any) -> nn.ModuleList | None:
    """Return the layers of a network's decoder; None of an encoder alone."""
    if network.get_output_embeddings() is None:
        return None
    layers = getattr(network.get_decoder(), "layers", None)
    return layers if isinstance(layers, nn.ModuleList) else None


def blocks_of(network: nn.Module, layers: nn.ModuleList, dtype: torch.dtype) -> Blocks:
    """Return the parts of a network that are placed one by one, and their sizes in a precision."""
    # The names are those of the whole network, as accelerate takes them.
    inside = next(name for name, module in network.named_modules() if module is layers)
    layer_bytes = tuple(network_bytes(layer, dtype) for layer in layers)
    return Blocks(
        tuple(f"{inside}.{n}" for n in range(len(layers))),
        tuple(_beside(network, inside)),
        layer_bytes,
        network_bytes(network, dtype) - sum(layer_bytes),
    )


def _beside(network: nn.Module, inside: str) -> Iterator[str]:
    """Yield the names of the modules, and of lone parameters, on the way to a module that lead
    elsewhere.
    """
    module, before = network, ""
    for step in inside.split("."):
        # What lies beside the way to the layers: parameters of its own, and other modules.
        yield from (f"{before}{name}" for name, _ in module.named_parameters(recurse=False))
        yield from (f"{before}{name}" for name, _ in module.named_children() if name != step)
        module, before = module.get_submodule(step), f"{before}{step}."


def spread(blocks: Blocks, rooms: Sequence[int], n_gpus: int, on_disk: bool) -> list[int] | None:
    """Return the number of the device of each layer, `len(rooms)` for the disk; None where there
    is no room.

    GPUs share the layers evenly, each in proportion to its room. What they have no room for goes
    to the host, then to disk.

    Args:
        blocks: What is placed.
        rooms: The bytes that weights may take on each device, GPUs first. Those of one GPU or of
            the host alone are taken as they are.
        n_gpus: How many of them are GPUs.
        on_disk: Whether layers may stay on disk.
    """
    # The trunk is never divided, so that no share of the layers helps where it is too large.
    if blocks.trunk_bytes > rooms[0]:
        return None
    # The smallest share of each GPU that holds all layers spreads them evenly.
    for percent in range(1, 101) if n_gpus else ():
        shares = [room * percent // 100 for room in rooms[:n_gpus]]
        # All but the layers stands on the first device; beyond its share, it takes no layer.
        shares[0] -= blocks.trunk_bytes
        if (devices := _filled(blocks.layer_bytes, shares)) is not None:
            return devices
    left = list(rooms)
    left[0] -= blocks.trunk_bytes
    if on_disk or n_gpus < len(rooms):
        # A layer that stands elsewhere visits the device that runs it, the next one meanwhile.
        visits = 2 * max(blocks.layer_bytes)
        running = range(max(n_gpus, 1)) if on_disk or n_gpus else ()
        for n in running:
            left[n] -= visits
    if left[0] < 0:
        return None
    return _filled(blocks.layer_bytes, [*left, sum(blocks.layer_bytes)] if on_disk else left)


def _filled(layer_bytes: Sequence[int], rooms: Sequence[int]) -> list[int] | None:
    """Return the number of the room of each layer, filled in their order; None where the last
    runs over.
    """
    devices: list[int] = []
    device, left = 0, rooms[0]
    # In their order, so that a pass crosses from one device to the next only once.
    for size in layer_bytes:
        while size > left:
            device += 1
            if device == len(rooms):
                return None
            left = rooms[device]
        left -= size
        devices.append(device)
    return devices


def device_map(blocks: Blocks, devices: Sequence[str], numbers: Sequence[int]) -> dict[str, str]:
    """Return the device of each part, as accelerate takes it.

    numbers: Of each layer, the number of its device, or of the disk after the last.
    """
    names = (*devices, DISK)
    layers = {layer: names[n] for layer, n in zip(blocks.layers, numbers, strict=True)}
    return dict.fromkeys(blocks.trunk, devices[0]) | layers


def device_of(module: nn.Module) -> torch.device:
    """Return the device that a module computes on, wherever its weights wait."""
    # accelerate says where a module computes, whatever its weights are at the moment.
    hook = getattr(module, "_hf_hook", None)  # accelerate's
    if hook is not None and hook.execution_device is not None:
        return torch.device(hook.execution_device)
    device = getattr(module, COMPUTES_ON, None)
    if isinstance(device, torch.device):
        return device
    return next(module.parameters()).device


def beside_layers(
    layers: nn.ModuleList, states: Mapping[int, torch.Tensor]
) -> dict[int, torch.Tensor]:
    """Return tensors by layer, each on the device of its layer: layers of one model may stand on
    several.
    """
    return {number: tensor.to(device_of(layers[number])) for number, tensor in states.items()}

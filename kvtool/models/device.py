"""Everything that depends on the device: names, copies to and from it, precisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kvtool.errors import UsageError
from kvtool.models.base import Array
from kvtool.models.device_names import AUTO, parse_devices
from kvtool.types import Precision

DTYPES: dict[Precision, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


def find_device(name: str) -> torch.device:
    """Return the device of a name: cpu, cuda or cuda:N; of joined names, the first. Raises
    UsageError where one does not exist.
    """
    devices = [_existing(device) for device in parse_devices(name).names]
    return devices[0]


def _existing(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UsageError(
                f"device: expected {name} to exist, found {count} CUDA devices; choose cpu or "
                "another"
            )
        return torch.device("cuda", device.index or 0)
    return device


def chosen_name(name: str) -> str:
    """Return the name of what holds a model; "auto" is CUDA where there is one. Raises
    UsageError where it does not exist.
    """
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    find_device(name)
    return name


def chosen_device(name: str) -> torch.device:
    """Return the device of a name; of joined names the first, which computes what is no model's.
    Raises UsageError.
    """
    return find_device(chosen_name(name))


def one_device(name: str) -> torch.device:
    """Return the device of a name; Raises UsageError for several joined ones, which cannot
    train.
    """
    device = chosen_device(name)
    if name != AUTO and parse_devices(name).are_joined:
        raise UsageError(
            f"device: expected one device, on which gradients flow, found {name!r}; name one"
        )
    return device


def find_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of a precision. Raises UsageError."""
    for precision, dtype in DTYPES.items():
        if name == precision:
            return dtype
    raise UsageError(
        f"dtype: expected one of {', '.join(DTYPES)}, found {name!r}; choose one of these"
    )


def to_device(tensors: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Stack prepared tensors on the device; on CUDA while it still computes what came before."""
    stacked = torch.stack(list(tensors))
    if device.type != "cuda":
        return stacked
    # Beside the pass that is computed now, from pinned memory, or the copy would wait for it.
    with torch.cuda.stream(_stream("in", device)):
        uploaded = stacked.pin_memory().to(device, non_blocking=True)
    current = torch.cuda.current_stream(device)
    current.wait_stream(_stream("in", device))
    # Its memory belongs to the other stream, which must not use it again before this one has.
    uploaded.record_stream(current)
    return uploaded


_STREAMS: dict[tuple[str, torch.device], torch.cuda.Stream] = {}
"""By direction, "in" or "out", and device: copies go beside what is computed."""


def _stream(direction: str, device: torch.device) -> torch.cuda.Stream:
    if (direction, device) not in _STREAMS:
        new_stream: Any = torch.cuda.Stream
        _STREAMS[direction, device] = new_stream(device)
    return _STREAMS[direction, device]


def copies_under_way() -> tuple[torch.cuda.Event, ...]:
    """Return events that come when the copies to the host have ended that began up to now; none
    without CUDA.
    """
    outward = [stream for (direction, _), stream in _STREAMS.items() if direction == "out"]
    return tuple(stream.record_event() for stream in outward)


class HostBuffer:
    """Host memory of a batch's kind, (layer, image, head, token, dim), filled layer by layer.

    The layer comes first so that each copy is one contiguous block; on CUDA it is pinned, and
    copies go on beside what is computed next: `copies_under_way` tells when they have ended.
    """

    def __init__(self, n_layers: int) -> None:
        self.n_layers = n_layers
        self.tensor: torch.Tensor | None = None

    def put(self, index: int, states: torch.Tensor) -> None:
        """Copy one layer's states, (image, head, token, dim); nothing keeps a view of them."""
        if self.tensor is None:
            self.tensor = torch.empty(
                (self.n_layers, *states.shape),
                dtype=states.dtype,
                pin_memory=states.device.type == "cuda",
            )
        if states.device.type != "cuda":
            self.tensor[index].copy_(states)
            return
        # Layers of one model may stand on several devices.
        stream = _stream("out", states.device)
        states = states.contiguous()
        stream.wait_stream(torch.cuda.current_stream(states.device))
        with torch.cuda.stream(stream):
            self.tensor[index].copy_(states, non_blocking=True)
        # What is computed next must not be put there before the copy has ended.
        states.record_stream(stream)

    def arrays(self) -> list[Array]:
        """One array per image, (layer, head, token, dim), filled once the copies have ended."""
        assert self.tensor is not None, "no layer was captured"
        array = to_numpy(self.tensor)
        return [array[:, image] for image in range(array.shape[1])]


def one_head_arrays(layers: Sequence[torch.Tensor]) -> list[Array]:
    """One array per image, (layer, 1, token, dim), of layers of (image, token, dim); see
    HostBuffer.arrays.
    """
    buffer = HostBuffer(len(layers))
    for index, states in enumerate(layers):
        buffer.put(index, states[:, None])
    return buffer.arrays()


def to_numpy(tensor: torch.Tensor) -> Array:
    """Return a host tensor as an array that shares its memory; bfloat16 as its bits in uint16."""
    bits: Any = tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
    array: Array = bits.numpy()
    return array


def from_numpy(array: Array, dtype: torch.dtype) -> torch.Tensor:
    """Inverse of to_numpy: uint16 is taken for bfloat16 bits, then converted to `dtype` if that
    differs.
    """
    tensor = torch.tensor(array)
    if tensor.dtype == torch.uint16:
        tensor = tensor.view(torch.bfloat16)
    return tensor.to(dtype)

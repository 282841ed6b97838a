"""Names of devices, checked without torch: the one grammar of --devices.

A comma separates workers, each with a model of its own; a plus joins the devices of one model,
whose layers are spread over them in this order: GPUs, then the host, then a folder on disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from kvtool.errors import UsageError

AUTO = "auto"
JOINED = "cuda:0+cuda:1, cuda:0+cpu or cpu+disk:DIR"
"""Examples of devices that hold one model together."""
_DEVICE = r"cpu|cuda(?::[0-9]{1,3})?"
_DISK = "disk:"
_LONGEST = 40


@dataclass(frozen=True)
class Devices:
    """What holds one model.

    Attributes:
        names: Torch's names. The first takes the inputs, and all of the model but its decoder's
            layers.
        folder: Whether layers that fit none of them stay on disk, and where they are written that
            cannot be read from the checkpoint as they are; None where none may.
    """

    names: tuple[str, ...]
    folder: str | None = None

    @property
    def are_joined(self) -> bool:
        """Whether there is more than one place for layers."""
        return len(self.names) > 1 or self.folder is not None


def check_device(name: str) -> str:
    """Return a device's name, or the joined names of one model's, as they are written.

    Raises UsageError; whether they exist is seen later.
    """
    parse_devices(name)
    return name


def parse_devices(text: str) -> Devices:
    """Return the devices that hold one model. Raises UsageError."""
    names, folder = text, None
    if _DISK in text:
        # A folder's name may have any letter but the comma that separates workers.
        names, _, folder = text.partition(_DISK)
        if not names.endswith("+") or not folder:
            raise UsageError(
                f"device: expected {_DISK}DIR after the devices of a model, as in cpu+{_DISK}DIR, "
                f"found {text[:_LONGEST]!r}"
            )
        names = names[:-1]
    devices = Devices(tuple(names.split("+")), folder)
    for device in devices.names:
        _check_one(device)
    _check_order(devices.names, text)
    return devices


def _check_one(name: str) -> None:
    """Raise UsageError unless a name is that of one device."""
    if name == "mps":
        raise UsageError(
            "device: expected cpu, cuda or cuda:N, found 'mps': Metal has no float64, in which "
            "kvtool computes scores, and nothing was tried there; choose cpu"
        )
    if not re.fullmatch(_DEVICE, name):
        raise UsageError(
            f"device: expected cpu, cuda or cuda:N, found {name[:_LONGEST]!r}; choose one of "
            f"these, or join those of one model: {JOINED}"
        )


def _check_order(names: tuple[str, ...], text: str) -> None:
    """Raise UsageError where joined devices are named twice, or a GPU after the host."""
    # "cuda" and "cuda:0" are one device.
    numbered = ["cuda:0" if name == "cuda" else name for name in names]
    host_first = any(first == "cpu" for first, _ in pairwise(numbered))
    if len(set(numbered)) < len(numbered) or host_first:
        raise UsageError(
            f"device: expected each device of a model once, GPUs before cpu, found "
            f"{text[:_LONGEST]!r}; write {JOINED}"
        )


def first_device(name: str) -> str:
    """Return the first of joined devices: where inputs go, and measures compute."""
    return name if name == AUTO else parse_devices(name).names[0]


def worker_devices(text: str) -> tuple[str, ...]:
    """Return the devices of each worker of a command. Raises UsageError."""
    workers = tuple(text.split(","))
    for name in workers:
        if name != AUTO or len(workers) > 1:
            check_device(name)
    return workers


def numbered(name: str) -> tuple[str, int]:
    """Return the device of a worker that sees no other GPUs than its own, as cuda:0, cuda:1 and so
    on, as the tasks of a cluster do; and the number of these. Raises UsageError.
    """
    names = parse_devices(name).names
    gpus = [device for device in names if device != "cpu"]
    renamed = [f"cuda:{number}" for number in range(len(gpus))]
    return name.replace("+".join(gpus), "+".join(renamed), 1), len(gpus)

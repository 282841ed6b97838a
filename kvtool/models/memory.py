"""Room for a model: what its weights take, and what a device or this process has left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import nn

CGROUPS = Path("/sys/fs/cgroup")


def network_bytes(network: nn.Module, dtype: torch.dtype) -> int:
    """Return bytes of a network's parameters in a precision, and of its buffers as they are; tied
    ones count once.
    """
    weights = sum(parameter.numel() for parameter in network.parameters()) * dtype.itemsize
    return weights + sum(buffer.nbytes for buffer in network.buffers())


def free_bytes(device: torch.device) -> int:
    """Return bytes that a device has left; of the CPU, those this process may still take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    # A container's limit may be far below what the machine has.
    return min([int(psutil.virtual_memory().available), *cgroup_rooms(CGROUPS, _own_cgroup())])


def total_bytes(device: torch.device) -> int:
    """Return all of a device's memory, free or not; of the CPU, what this process may have."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        return int(total)
    limits = cgroup_limits(CGROUPS, _own_cgroup())
    return min([int(psutil.virtual_memory().total), *limits])


def _own_cgroup() -> str:
    """This process's group, as a path below the cgroup file system; empty where there is none."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    # Version 2 has one line, 0::/path; version 1 has one a controller, 4:memory:/path.
    groups = dict(line.split(":", 2)[1:] for line in lines if line.count(":") >= 2)
    return groups.get("memory", groups.get("", ""))


def cgroup_rooms(root: Path, group: str) -> list[int]:
    """Return bytes left within the memory limit of a group and of each group above it; what the
    page cache holds is free.
    """
    rooms = (_room(path, limit, usage) for path, limit, usage in _groups(root, group))
    return [room for room in rooms if room is not None]


def cgroup_limits(root: Path, group: str) -> list[int]:
    """Return the memory limits of a group and of each group above it."""
    limits: list[int] = []
    for path, limit, _ in _groups(root, group):
        with suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int((path / limit).read_text()))
    return limits


def _groups(root: Path, group: str) -> Iterator[tuple[Path, str, str]]:
    """Yield the folders of a group and of each above it, with the names of their files of the
    memory's limit and of what is used.
    """
    for base, limit, usage in (
        (root, "memory.max", "memory.current"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        folder = base / group.lstrip("/")
        # In a container the group's path may be that of the host: then only the root is there.
        for path in (folder, *folder.parents):
            yield path, limit, usage
            if path == base:
                break


def _room(folder: Path, limit: str, usage: str) -> int | None:
    """Return bytes left within one group's limit; None where it has no limit, or cannot be read."""
    try:
        n_bytes = int((folder / limit).read_text())
        used = int((folder / usage).read_text())
        # What the page cache holds is given back when it is needed.
        numbers = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
        cache = sum(
            int(number) for name, number in numbers if name in ("inactive_file", "active_file")
        )
    except (OSError, ValueError):  # "max" is no limit
        return None
    return max(0, n_bytes - used + cache)

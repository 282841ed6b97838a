"""Extraction on a Ray cluster: the same worker as local.py, one Ray task a device.

Needs a store every node can see.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.engine.events import Event, Tell
from kvtool.engine.plan import Job, Plan
from kvtool.engine.worker import resolve_devices, work
from kvtool.errors import KvtoolError, UsageError


def run_ray(
    job: Job, plan: Plan, devices: Sequence[str], min_free_vram: int | None, tell: Tell
) -> None:
    """Run one worker per entry of `devices` as a Ray task; cuda devices ask Ray for a GPU each, and
    "auto" is one where the cluster has any. Whether a device is there and free is looked at where
    the task runs.

    Joins the cluster that RAY_ADDRESS names, else starts Ray on this machine. Raises UsageError
    without ray.
    """
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--engine ray: expected the package ray, found none; pip install 'kvtool[ray]'"
        ) from None

    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    if tuple(devices) == ("auto",):
        devices = ("cuda:0",) if ray.cluster_resources().get("GPU") else ("cpu",)
    remote = ray.remote(max_retries=1)(collect)
    # A task sees the GPU that Ray gave it, and only that, as cuda:0.
    tasks = [
        remote.options(num_gpus=1).remote(job, plan, "cuda:0", min_free_vram)
        if device.startswith("cuda")
        else remote.remote(job, plan, device, min_free_vram)
        for device in devices
    ]
    while tasks:
        finished, tasks = ray.wait(tasks)
        events, error = ray.get(finished[0])
        for event in events:
            tell(event)
        if error is not None:
            raise error


def collect(
    job: Job, plan: Plan, device: str, min_free_vram: int | None = None
) -> tuple[list[Event], KvtoolError | None]:
    """Return a worker's events, gathered: they return with the task.

    The device is looked at here, on the worker's node.
    """
    events: list[Event] = []
    try:
        (device,) = resolve_devices((device,), min_free_vram)
        work(job, plan, device, events.append)
    except KvtoolError as error:
        return events, error
    return events, None

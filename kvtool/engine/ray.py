"""Workers as tasks of a Ray cluster: one a GPU, or a slot of CPUs, of whatever nodes there are.

Ray's scheduler places the tasks, and starts those of a lost node again elsewhere, as often as it
takes. What its processes claimed in a store is released as soon as Ray knows that they are gone, so
that others go on with it. What tasks tell comes through a queue on the caller's node while they
work. Every node sees the store, and what else is named, at the same paths.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvtool.engine.processes import POLL_S, Hear, IsOver, Work
from kvtool.engine.stopping import PATIENCE_S
from kvtool.engine.worker import resolve_devices
from kvtool.errors import KvtoolError, UsageError
from kvtool.models.device_names import numbered
from kvtool.store.owners import this_process

log = logging.getLogger("kvtool")

MOST_DEATHS = 3
"""How often a task's process may die on nodes that live: what kills it each time is its input."""


@dataclass(frozen=True)
class Started:
    """The first thing that each attempt at a task tells.

    Attributes:
        process: The tag of its process, as claims name it.
        node: The id of its node.
    """

    process: str
    node: str


@dataclass(frozen=True)
class RayTask:
    """What a task does, as it travels.

    Attributes:
        work: What each worker does.
        device: Its device, as its process knows it.
        number: Of the worker.
        min_free_vram: Bytes that must be free there.
        folder: The caller's working directory, in which relative paths mean what they mean there.
        variables: The caller's variables that it needs; credentials among them are not shown.
    """

    work: Work
    device: str
    number: int
    min_free_vram: int | None
    folder: str
    variables: Mapping[str, str] = field(repr=False)

    def run(self, messages: Any) -> KvtoolError | None:
        """Work on the device of this node, and return the error of it that is the user's."""
        import ray

        self.enter()
        node = ray.get_runtime_context().get_node_id()
        # Told first, so that the caller knows whose claims to release if the node is lost.
        messages.put((self.number, Started(this_process().tag, node)))
        return self.work_on(lambda message: messages.put((self.number, message)))

    def enter(self) -> None:
        """Take over the caller's surroundings."""
        os.environ.update(self.variables)
        with suppress(OSError):  # a node without it may see all that absolute paths name
            os.chdir(self.folder)

    def work_on(self, tell: Callable[[Any], None]) -> KvtoolError | None:
        """Look at the device, which is this node's, and work."""
        try:
            (device,) = resolve_devices((self.device,), self.min_free_vram)
            self.work(device, tell)
        except KvtoolError as error:
            return error
        return None


@dataclass
class Attempts:
    """The processes of tasks, and which of them are gone.

    Attributes:
        lost: Called with the tags of processes that are gone.
        last: The last attempt at each task.
    """

    lost: Callable[[set[str]], None]
    last: dict[int, Started] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    _released: set[str] = field(default_factory=set)

    def start(self, number: int, attempt: Started, alive: set[str]) -> None:
        """Take a new attempt at a task: the one before is gone. Raises KvtoolError where its node
        is not, time after time.
        """
        before = self.last.get(number)
        self.last[number] = attempt
        if before is None:
            return
        # An attempt follows only when the one before is gone: its claims are free.
        self._release([before])
        log.warning("worker %d of the Ray cluster: its process is gone; it begins again", number)
        # A lost node is no fault of the input; a death on a node that lives may be.
        self.deaths[number] = self.deaths.get(number, 0) + (before.node in alive)
        if self.deaths[number] >= MOST_DEATHS:
            raise KvtoolError(
                f"worker {number} of the Ray cluster: expected it to finish, found its process "
                f"dead {MOST_DEATHS} times on nodes that live; what it had committed stays: see "
                "Ray's logs of it, perhaps it needs more memory"
            )

    def look(self, alive: set[str]) -> None:
        """Release what those claimed whose nodes are lost."""
        self._release(attempt for attempt in self.last.values() if attempt.node not in alive)

    def _release(self, attempts: Iterable[Started]) -> None:
        tags = {attempt.process for attempt in attempts} - self._released
        if tags:
            self._released |= tags
            self.lost(tags)


def run_ray(
    work: Work,
    devices: Sequence[str],
    hear: Hear,
    is_over: IsOver,
    lost: Callable[[set[str]], None],
    *,
    variables: Mapping[str, str],
    cpus_per_worker: int = 1,
    min_free_vram: int | None = None,
) -> None:
    """Do some work in a task for each device.

    Joins the cluster that RAY_ADDRESS names, else starts Ray on this machine.

    Args:
        work: what each does.
        devices: a task each; a GPU of its own for each cuda device, whatever its number.
        hear: called in this process with all that tasks tell, as they tell it.
        is_over: asked now and then, with the numbers of all tasks; once it is true, those that are
            left are stopped.
        lost: called with the tags of processes that are gone before their task ended.
        variables: of the environment, as each task is to have them.
        cpus_per_worker: the CPUs that Ray sets aside for a task.
        min_free_vram: bytes of a GPU that must be free where the task runs.

    Raises the first KvtoolError of any task, and stops all others then; UsageError without ray.
    """
    ray = joined_cluster()
    messages = _queue(ray)
    attempts = Attempts(lost)
    tasks: list[Any] = []
    try:
        new_tasks = [
            RayTask(work, numbered(device)[0], number, min_free_vram, str(Path.cwd()), variables)
            for number, device in enumerate(devices)
        ]
        tasks = _submitted(ray, new_tasks, devices, messages, cpus_per_worker)
        running = tasks
        while running and not is_over(set(range(len(tasks)))):
            ended, running = ray.wait(running, num_returns=len(running), timeout=POLL_S)
            told = _told(messages)
            # After what was told: a node that joined before an attempt told of itself is in it.
            alive = live_nodes(ray)
            for number, message in told:
                if isinstance(message, Started):
                    attempts.start(number, message, alive)
                else:
                    hear(number, message)
            # Claims of lost nodes are released at once, not when their task begins again.
            attempts.look(alive)
            for error in ray.get(ended):
                if error is not None:
                    raise error
    finally:
        _stop(ray, tasks)
        messages.shutdown(force=True)


def joined_cluster() -> Any:
    """Return the module ray, connected to a cluster. Raises UsageError where it is not there."""
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--engine ray: expected the package ray, found none; pip install 'kvtool[ray]'"
        ) from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    return ray


def live_nodes(ray: Any) -> set[str]:
    """Return the ids of the nodes that live."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def every_device(ray: Any, cpus_per_worker: int) -> tuple[str, ...]:
    """Return a device for each GPU of the cluster, or where it has none, for each slot of CPUs.
    Raises UsageError where no node has so many CPUs.
    """
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    n_gpus = sum(int(node.get("GPU", 0)) for node in resources)
    # Slots are counted node by node, since a task cannot take CPUs of two.
    n_slots = sum(int(node.get("CPU", 0)) // cpus_per_worker for node in resources)
    if not n_gpus and not n_slots:
        raise UsageError(
            f"cpus_per_worker: expected as many as a node of the cluster has, found "
            f"{cpus_per_worker}"
        )
    return ("cuda:0",) * n_gpus or ("cpu",) * n_slots


def check_room(ray: Any, devices: Sequence[str], cpus_per_worker: int) -> None:
    """Raise UsageError where no node of the cluster has what some worker asks for: its task would
    wait for ever.
    """
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for device in devices:
        n_gpus = numbered(device)[1]
        if any(
            node.get("GPU", 0) >= n_gpus and node.get("CPU", 0) >= cpus_per_worker
            for node in resources
        ):
            continue
        most_gpus, most_cpus = (
            int(max((node.get(name, 0) for node in resources), default=0))
            for name in ("GPU", "CPU")
        )
        raise UsageError(
            f"--devices {device}: expected a node of the Ray cluster with {n_gpus} GPUs and "
            f"{cpus_per_worker} CPUs a worker, found at most {most_gpus} and {most_cpus}; name "
            "other devices, or auto for those that there are"
        )


def _queue(ray: Any) -> Any:
    """Return a queue on the caller's node, which is lost with the caller alone."""
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Hard affinity: on another node the queue could be lost while the caller lives.
    node = ray.get_runtime_context().get_node_id()
    affinity = NodeAffinitySchedulingStrategy(node, soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": affinity})


def _told(messages: Any) -> list[tuple[int, Any]]:
    """Return what tasks told since the last look."""
    return list(messages.get_nowait_batch(messages.qsize()))


def _submitted(
    ray: Any, tasks: Sequence[RayTask], devices: Sequence[str], messages: Any, cpus_per_worker: int
) -> list[Any]:
    """Hand the tasks to Ray, one for each device."""
    # A lost node, or a process that dies, is no fault of the task: it runs again. Errors are.
    remote = ray.remote(max_retries=-1, retry_exceptions=False)(RayTask.run)
    submitted = []
    for task, device in zip(tasks, devices, strict=True):
        resources = {"num_cpus": cpus_per_worker, "num_gpus": numbered(device)[1]}
        submitted.append(remote.options(**resources).remote(task, messages))
    return submitted


def _stop(ray: Any, tasks: Sequence[Any]) -> None:
    """Tell tasks that still run to release their claims and end; those that do not are ended."""
    deadline = time.monotonic() + PATIENCE_S
    # Those that ended by themselves need no cancelling.
    _, running = ray.wait(list(tasks), num_returns=len(tasks), timeout=0) if tasks else ([], [])
    for task in running:
        ray.cancel(task, force=False)
    while running and time.monotonic() < deadline:
        _, running = ray.wait(running, num_returns=len(running), timeout=POLL_S)
    for task in running:
        with suppress(ValueError):  # it has just ended
            ray.cancel(task, force=True)

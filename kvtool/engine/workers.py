"""Workers of a command: processes of this machine, or tasks of a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Literal, get_args

from kvtool.engine.processes import Hear, IsOver, Work, never, run_processes
from kvtool.engine.travel import variables_for
from kvtool.engine.worker import resolve_devices
from kvtool.errors import UsageError
from kvtool.models.device_names import AUTO
from kvtool.store import Store, existing_store
from kvtool.store.locks import release

Engine = Literal["local", "ray"]
"""What runs the workers: processes of this machine, or the tasks of a Ray cluster."""
ENGINES: tuple[Engine, ...] = get_args(Engine)


@dataclass(frozen=True)
class Hands:
    """The workers of a command.

    Attributes:
        devices: Torch's names, a worker each.
        engine: What runs them.
        cpus_per_worker: The CPUs that Ray sets aside for one.
        min_free_vram: Bytes that must be free on each GPU.
    """

    devices: tuple[str, ...]
    engine: Engine = "local"
    cpus_per_worker: int = 1
    min_free_vram: int | None = None

    def gathered(self) -> Hands:
        """Return the same with the devices that "auto" stands for. Raises UsageError where one is
        not there, BusyError where too little of it is free; how much of a cluster's is free is
        looked at where they are.
        """
        if self.engine == "local":
            return replace(self, devices=resolve_devices(self.devices, self.min_free_vram))
        from kvtool.engine.ray import check_room, every_device, joined_cluster

        cluster = joined_cluster()
        if self.devices == (AUTO,):
            return replace(self, devices=every_device(cluster, self.cpus_per_worker))
        check_room(cluster, self.devices, self.cpus_per_worker)
        return self


def check_engine(name: str, cpus_per_worker: int = 1) -> Engine:
    """Return the name of an engine. Raises UsageError, for CPUs that it does not set aside, too."""
    if name == "local" and cpus_per_worker != 1:
        raise UsageError(
            "cpus_per_worker: expected it beside the engine ray or slurm alone, found "
            f"{cpus_per_worker} with local; OMP_NUM_THREADS says how many threads a process has"
        )
    for engine in ENGINES:
        if name == engine:
            return engine
    hint = "; the command line writes and submits jobs of Slurm" if name == "slurm" else ""
    raise UsageError(f"engine: expected {' or '.join(ENGINES)}, found {name!r}{hint}")


def run_workers(
    hands: Hands,
    work: Work,
    hear: Hear,
    stores: Iterable[str],
    is_over: IsOver = never,
) -> int:
    """Do some work in each worker, and return how many died; of a Ray cluster none, whose tasks
    begin anew. Raises the first error of any, and stops all others then.

    Args:
        hands: the workers, gathered.
        work: what each does.
        hear: called in this process with all that workers tell, as they tell it.
        stores: the folders of stores in which workers claim; what those claimed that are lost is
            released.
        is_over: asked now and then, with the numbers of those that did not die; once it is true,
            those that are left are stopped.
    """
    if hands.engine == "ray":
        from kvtool.engine.ray import run_ray

        folders = tuple(stores)
        vram, cpus = hands.min_free_vram, hands.cpus_per_worker

        def lost(processes: set[str]) -> None:
            """Release what processes claimed that are gone."""
            for folder in folders:
                _release(existing_store(folder), processes)

        # Ray prints what it says of lost workers to standard output, which is the data's.
        with redirect_stdout(sys.stderr):
            run_ray(
                *(work, hands.devices, hear, is_over, lost),
                variables=variables_for(folders),
                cpus_per_worker=cpus,
                min_free_vram=vram,
            )
        return 0
    return run_processes(work, hands.devices, hear, is_over)


def _release(store: Store | None, processes: set[str]) -> None:
    """Release what processes claimed in a store."""
    for run in store.readable_runs() if store else ():
        release(run.folder / "locks", processes)

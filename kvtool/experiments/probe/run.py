"""`kvtool probe`: how well every (kind, layer, kv_head) of a run does a perception task (paper,
section 3.1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from kvtool.bounds import checked
from kvtool.engine.crew import Devices, crewed
from kvtool.layers import LayerChoice
from kvtool.progress import Progress, called
from kvtool.result import Result
from kvtool.store.select import Target, select_run
from kvtool.store.shares import Share
from kvtool.tasks.evaluation import count_blocks, evaluate, tasks_of
from kvtool.types import Kind


@checked
@crewed("save_predictions", "share")
def probe(
    target: Target,
    task: str,
    *,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    heads: Sequence[int] | None = None,
    ids: Collection[str] | None = None,
    select: str = "max",
    limit: int | None = None,
    device: str = "auto",
    devices: Devices = None,  # noqa: ARG001  the crew's
    engine: str = "local",  # noqa: ARG001  the crew's
    cpus_per_worker: int = 1,  # noqa: ARG001  the crew's
    data: str | Path | None = None,
    seed: int = 0,
    fresh: bool = False,
    save_predictions: str | Path | None = None,
    wait_s: float = 0.0,
    share: Share | None = None,
    progress: Progress | bool | None = None,
    **options: Any,
) -> Result:
    """Score every block of a run on a task.

    The result is stored and returned again when the same is asked for, unless `fresh`. Raises
    UsageError where the run's data set cannot serve the task or a block is not stored, KvtoolError
    where nothing can be scored, BusyError where another process scores the same.

    Args:
        target: the run, or the store that holds it.
        task: the name of the task.
        kinds: by default value, or key where there is none, and the baselines projected and vision.
        layers: layers of the decoder's kinds, or of vision where no decoder's kind is asked for;
            the baselines beside them are complete.
        heads: heads of the same kinds.
        ids: the run's images to use, so that runs which lack different ones can be compared.
        select: "max" takes the best block on the data it is scored on, which is optimistic; "split"
            chooses on one half of the sampling units and scores on the other.
        limit: the most sampling units.
        device: the device.
        devices: in place of one device several, a worker each, who share the layers.
        engine: "local" for processes of this machine, "ray" for tasks of a Ray cluster.
        cpus_per_worker: the CPUs that Ray sets aside for a worker.
        data: the place of the run's data set, if it moved.
        seed: the random seed of episodes, halves and intervals.
        fresh: whether everything is scored again.
        save_predictions: a new folder for what the best block predicts, see docs/output.md.
        wait_s: how long to wait for another process that scores the same.
        share: that of the command that this probe is a part of, in place of wait_s.
        progress: called with (blocks done, note), and once with their number; True shows a bar.
        options: the task's options, see options_of.
    """
    run = select_run(target, lambda stored: task in tasks_of(stored))
    advance = called(progress)
    advance(0, "", count_blocks(run, task, kinds, layers, heads))
    return evaluate(
        run,
        task,
        kinds=kinds,
        layers=layers,
        heads=heads,
        ids=ids,
        select=select,
        limit=limit,
        device=device,
        data=data,
        seed=seed,
        fresh=fresh,
        save_predictions=save_predictions,
        share=share or Share(wait_s),
        progress=advance,
        **options,
    )

"""The run without prefix that `kvtool prefix` starts from, and its data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kvtool.datasets import open_dataset
from kvtool.datasets.base import DatasetBase
from kvtool.datasets.identity import count, dataset_of, listed
from kvtool.display import listing
from kvtool.errors import DatasetError, UsageError
from kvtool.experiments.prefix.conditions import NONE, model_revision
from kvtool.store import Run, Store
from kvtool.store.descriptions import ways_to_choose
from kvtool.tasks import datasets_for, lack_of
from kvtool.tasks.evaluation import check_served, tasks_of
from kvtool.types import Kind


def find_base(
    store: Store,
    task: str,
    kinds: Sequence[Kind],
    name: str | None,
    model: str | None,
    spec: str | None,
) -> Run | None:
    """Return the run without prefix; None where there is none and model and spec say what to
    extract.

    It is the named run, or the only one that holds the kinds and whose data set (`spec`, if it is
    there) serves the task, of the model (`model`: its name, or its place). Raises UsageError.
    """
    if name is not None:
        return _named_base(store.run(name), task)
    all_runs = store.readable_runs()
    runs = [run for run in all_runs if _is_base(run, task, kinds)]
    # A data set or model that is given narrows the choice.
    if spec is not None:
        dataset = open_dataset(spec)
        source = (dataset.name, dataset.split)
        runs = [run for run in runs if (run.config.dataset, run.config.split) == source]
    if model is not None and runs:
        # A model is known by its revision: its name may be a hub id here and a folder there.
        revision = model_revision(model, runs[0])
        runs = [run for run in runs if run.config.model.revision == revision]
    if len(runs) == 1 or (not runs and model is not None and spec is not None):
        return runs[0] if runs else None
    if runs:
        raise UsageError(
            f"store {store.address}: expected one run without prefix for {task} or a name "
            f"({ways_to_choose(store.address)}), found runs: {listing([run.name for run in runs])}"
        )
    serving = datasets_for(task)
    raise UsageError(
        f"store {store.address}: expected a run without prefix that holds {', '.join(kinds)} over "
        f"{' or '.join(serving)}{f' ({spec})' if spec else ''}{f' by {model}' if model else ''}, "
        f"found runs: {listing([run.name for run in all_runs])}; give --model and "
        f"--dataset {serving[0]}:PATH to extract it"
    )


def _named_base(run: Run, task: str) -> Run:
    """Check that a named run serves the task and has no prefix. Raises UsageError."""
    check_served(run, task)
    if run.config.prefix != NONE:
        raise UsageError(
            f"run {run.name}: expected the run without prefix, found {run.config.prefix!r}"
        )
    return run


def _is_base(run: Run, task: str, kinds: Sequence[Kind]) -> bool:
    return (
        run.config.prefix == NONE and set(kinds) <= set(run.config.kinds) and task in tasks_of(run)
    )


def open_data(
    base: Run | None, task: str, data: str | Path | None, spec: str | None
) -> DatasetBase:
    """Return the data set of the run without prefix, or where there is none, the one to extract.

    Raises DatasetError where it is no longer the one that the run was extracted from, UsageError
    where it cannot serve the task.
    """
    if base is None:
        assert spec is not None
        opened: DatasetBase = open_dataset(spec)
        lack = lack_of(opened, task)
        if lack:
            served = ", ".join(opened.tasks) or "none"
            raise UsageError(
                f"{spec}: expected a data set that serves {task}, found one that serves {served}: "
                f"{lack}"
            )
        return opened
    # Images of the run that the data set lost would have no text: conditions could not be made.
    opened = dataset_of(base, data)
    present = {ref.id for ref in opened.images()}
    if removed := [image for image in base.ids if image not in present]:
        raise DatasetError(
            f"{opened.name} {opened.root}: expected the images that run {base.name} holds, found "
            f"{count(removed, 'image')} gone ({listed(removed)}); give their folder with --data, "
            "or "
            "extract anew"
        )
    return opened

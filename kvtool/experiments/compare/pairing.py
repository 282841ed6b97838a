"""What compared runs have in common: the data set, and the images by what their pictures are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvtool.datasets.identity import count, listed
from kvtool.display import listing
from kvtool.errors import KvtoolError, UsageError
from kvtool.store import Run, Store
from kvtool.tasks.evaluation import check_served


@dataclass(frozen=True)
class PairedImages:
    """The images that all runs hold with the same pictures, and a line for each reason of others to
    be left out.
    """

    ids: frozenset[str]
    n_left_out: int
    reasons: tuple[str, ...]


def runs_to_compare(store: Store, names: Sequence[str], task: str) -> list[Run]:
    """Return two runs or more over one data set that serves the task.

    Raises UsageError for fewer, for one that is named twice or not known, and for runs over other
    data sets.
    """
    runs = [store.run(name) for name in names]
    if len(runs) < 2 or len({run.name for run in runs}) < len(runs):
        raise UsageError(
            "compare: expected two runs or more by name, the one that others are compared with "
            f"first, each once; found {', '.join(names) or 'none'}; the store has: "
            f"{listing(store.runs())}"
        )
    for run in runs:
        check_served(run, task)
    first = runs[0].config
    for run in runs[1:]:
        config = run.config
        if (config.dataset, config.split) != (first.dataset, first.split):
            raise UsageError(
                f"compare: expected runs over one data set, found {runs[0].name} over "
                f"{first.dataset}@{first.split} and {run.name} over {config.dataset}@"
                f"{config.split}; extract the same data set for both"
            )
    return runs


def paired_images(runs: Sequence[Run]) -> PairedImages:
    """Return the images that all runs hold. An image whose picture is another one in some run is
    none of them.

    Raises KvtoolError where none remains.
    """
    digests: list[dict[str, str]] = [
        {image: digest for picture in run.pictures for image, digest in picture.digests.items()}
        for run in runs
    ]
    common = set(digests[0]).intersection(*digests[1:])
    changed = [
        image
        for image in digests[0]
        if image in common and len({by_id[image] for by_id in digests}) > 1
    ]
    # A picture is told by its digest: under one id, runs may hold different ones.
    ids = common.difference(changed)
    images = set(digests[0]).union(*digests[1:])
    # What is left out is named run by run.
    reasons = [
        f"run {run.name} lacks {count(absent, 'image')} that another run holds ({listed(absent)})"
        for run, by_id in zip(runs, digests, strict=True)
        if (absent := sorted(images - set(by_id)))
    ]
    if changed:
        reasons.append(
            f"{count(changed, 'image')} whose picture is another one in another run "
            f"({listed(changed)})"
        )
    if not ids:
        raise KvtoolError(
            "compare: expected images that all runs hold with the same pictures, found none: "
            f"{'; '.join(reasons) or 'the runs are empty'}; extract the same images for all"
        )
    return PairedImages(frozenset(ids), len(images) - len(ids), tuple(reasons))


def describe_pairing(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return what a result says of each run that it compares."""
    return [
        {
            "run": run.name,
            "run_hash": run.config.hash,
            "model": run.config.model.name,
            "prefix": run.config.prefix,
            # Results of runs without a system message keep the hash that they had before.
            **({"system": run.config.system} if run.config.system else {}),
        }
        for run in runs
    ]

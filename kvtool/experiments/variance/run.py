"""`kvtool variance`: how much each key changes from image to image, and which do not depend on the input at all.

The paper's section 3.2 and appendix A.6.1: L2 variance of every (layer, kv_head) over images, its two modes, and the
cut between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kvtool.asking.heads import layer_groups
from kvtool.errors import UsageError
from kvtool.features.moments import distances, stream_groups
from kvtool.outputs import check_folder
from kvtool.result import Result, Row, result_key, versions
from kvtool.stats.bootstrap import bootstrap, ratio
from kvtool.stats.modes import describe
from kvtool.store import Run, Store, open_store
from kvtool.store.nonfinite import WHAT
from kvtool.store.nonfinite import describe as describe_places
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.shares import Share, chunk_name
from kvtool.tasks.scoring import keep_result
from kvtool.types import KINDS, Kind

Threshold = float | Literal["auto"]
Progress = Callable[[int, str], object]


def variance(
    target: Run | Store,
    *,
    kind: Kind = "key",
    threshold: Threshold = "auto",
    pca: Sequence[str] = (),
    out: str | Path | None = None,
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | None = None,
) -> Result:
    """L2 variance over images of every (layer, kv_head) of a kind, and which are input-agnostic.

    The variance is the mean over base-grid token positions of the trace of the covariance over images; one pass over
    the store, in memory that does not grow with the number of images. Its interval is a percentile bootstrap over up
    to 32 groups of neighbouring images, the mean over images held fixed.

    threshold: keys below it are input-agnostic. "auto" is the valley between the two modes of the distribution over
    keys (kvtool.stats.modes); where there are not two, input_agnostic is None in every row and config["notes"] says
    so. pca: ids of images of which to draw the principal components of every block into the folder `out`, a PNG each,
    input-agnostic blocks framed. seed: of intervals and of the test for two modes. progress: called with (parts read,
    note).

    The result is kept in the store and given again when asked for the same, unless `fresh`; another threshold needs no
    new pass. wait_s: how long to wait for another process that measures the same. Raises UsageError where the kind is
    not stored, for fewer than two images, and where images do not share their token positions; BusyError where another
    process measures the same.
    """
    run = target.run() if isinstance(target, Store) else target
    _check(run, kind, threshold, pca, out)
    if out is not None:
        check_folder(out, "variance: -o")
    config, store = _config(run, kind, seed), open_store(run.store)
    key = result_key([config, "auto"])
    result = Share(wait_s).result(
        run,
        chunk_name("variance", kind, key),
        lambda: None if fresh else store.kept(key, Result.from_json),
        lambda: keep_result(store, key, judge(measure(run, kind, seed, progress), run, config, "auto")),
    )
    if threshold != "auto":
        result = judge(result.rows, run, config, float(threshold))
        store.keep(result_key([config, float(threshold)]), result.to_json())
    if pca and out is not None:
        from kvtool.pictures.components import draw

        framed = {(row["layer"], row["kv_head"]) for row in result.rows if row["input_agnostic"]}
        drawn = draw(run, kind, pca, Path(out), framed)
        result = replace(result, config=result.config | {"pictures": list(map(str, drawn))})
    return result


def measure(run: Run, kind: Kind, seed: int, progress: Progress | None = None) -> list[Row]:
    """Rows with the variance of each (layer, kv_head) and its interval; None where values are not finite."""
    rows = []
    for layer, groups in stream_groups(run, kind, progress=progress):
        with np.errstate(invalid="ignore"):
            found = bootstrap(
                distances(groups), lambda sums: {"variance": ratio(sums[..., 0], sums[..., 1])}, seed=seed
            )
        for head, estimate in enumerate(zip(*found["variance"], strict=True)):
            value, low, high = (float(number) if np.isfinite(number) else None for number in estimate)
            scores = {"variance": value, "variance_low": low, "variance_high": high}
            rows.append({"kind": kind, "layer": layer, "kv_head": head, **scores, "n": len(run.ids)})
    return rows


def judge(rows: Sequence[Row], run: Run, config: dict[str, Any], threshold: Threshold) -> Result:
    """The result of measured rows: their distribution, the threshold, and what it makes of each."""
    known = np.array([row["variance"] for row in rows if row["variance"] is not None])
    distribution = describe(known, config["seed"])
    cut = distribution.valley if threshold == "auto" else threshold
    notes = []
    if len(known) < len(rows):
        unknown = [(row["kind"], row["layer"], row["kv_head"]) for row in rows if row["variance"] is None]
        places = describe_places(unknown, run.config)
        notes.append(f"{len(unknown)} of {len(rows)} variances are not defined: {WHAT}: {places}")
    if cut is None:
        notes.append(f"not bimodal ({distribution.why}): no cut is taken; give one with --threshold")
    group_of = {layer: name for name, layers in _groups(run, config["kind"]).items() for layer in layers}
    judged = []
    for row in rows:
        agnostic = None if cut is None or row["variance"] is None else bool(row["variance"] < cut)
        group = {"group": group_of[row["layer"]]} if group_of else {}
        judged.append(row | {"input_agnostic": agnostic} | group)
    return Result(
        command="variance",
        task=None,
        metric="variance",
        n=len(run.ids),
        rows=judged,
        config=config
        | {
            "threshold": cut,
            "threshold_from": "auto" if threshold == "auto" else "given",
            "distribution": distribution.to_json(),
            "groups": [_count(name, judged, cut) for name in dict.fromkeys(row.get("group") for row in judged) if name],
            "notes": notes,
        },
        versions=versions(),
        unit="variance",
    )


def _groups(run: Run, kind: Kind) -> dict[str, range]:
    """Early, middle and late layers of the decoder or of the tower; what goes into the decoder has none."""
    geometry = run.config.model.geometry
    if kind == "projected":
        return {}
    return layer_groups(geometry.vision_layers if kind == "vision" else geometry.layers)


def _count(name: str, rows: Sequence[Row], cut: float | None) -> Row:
    of_group = [row for row in rows if row["group"] == name]
    layers = sorted({row["layer"] for row in of_group})
    agnostic = None if cut is None else sum(row["input_agnostic"] is True for row in of_group)
    return {"group": name, "layers": layers, "n_keys": len(of_group), "n_input_agnostic": agnostic}


def _check(run: Run, kind: Kind, threshold: Threshold, pca: Sequence[str], out: str | Path | None) -> None:
    """What can be wrong with a request before anything is read. Raises UsageError."""
    if kind not in run.config.kinds:
        stored = ", ".join(run.config.kinds)
        raise UsageError(
            f"variance: run {run.name} has no {kind}, only {stored} of {', '.join(KINDS)}: see --kind, or extract it"
        )
    if threshold != "auto" and not (math.isfinite(threshold) and threshold >= 0):
        raise UsageError(f"variance: threshold: expected auto or a number of 0 or more, found {threshold:g}")
    if bool(pca) != (out is not None):
        raise UsageError("variance: pictures need both image ids (--pca ID) and a folder (-o DIR)")
    ids = run.ids
    for image in pca:
        if image not in ids:
            near = ", ".join(map(repr, get_close_matches(image, ids, n=3, cutoff=0.4)))
            hint = f"; nearest: {near}" if near else ""
            raise UsageError(f"variance: no image {image!r} among the {len(ids)} of run {run.name}{hint}")


def _config(run: Run, kind: Kind, seed: int) -> dict[str, Any]:
    """All that the variances depend on."""
    return {
        "algorithm": ALGORITHMS["variance"],
        **describe_run(run),
        "kind": kind,
        "seed": seed,
    }

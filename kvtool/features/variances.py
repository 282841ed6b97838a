"""L2 variance over images of every (layer, kv_head), and the heads that do not depend on the input.

See the paper, section 3.2 and A.6.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from kvtool.features.grids import GridLayout, layouts_of
from kvtool.features.moments import count_reads, pooled_distances, stream_groups
from kvtool.layers import layer_groups
from kvtool.progress import Progress
from kvtool.result import Result, Row, result_key, versions
from kvtool.stats.bootstrap import bootstrap, ratio
from kvtool.stats.modes import Distribution, describe
from kvtool.store.catalog import open_store
from kvtool.store.nonfinite import WHAT
from kvtool.store.nonfinite import describe as describe_blocks
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.run import Run
from kvtool.store.shares import Share, chunk_name
from kvtool.types import Kind

Threshold = float | Literal["auto"]


def measure(run: Run, kind: Kind, seed: int, progress: Progress | None = None) -> list[Row]:
    """Return rows with the variance of each (layer, kv_head) and its interval.

    Fields are None where values are not finite. `n` counts the images whose grid another image
    shares; over several grids the variance is that within each.
    """
    rows = []
    layouts = layouts_of(run, kind, run.samples)
    n = sum(len(layout.samples) for layout in layouts)
    if progress is not None:
        progress(0, "", count_reads(run, kind))
    for layer, groups in stream_groups(run, kind, layouts, progress=progress):
        with np.errstate(invalid="ignore"):
            # The bootstrap draws groups of images; NaN and infinity make the head's variance
            # undefined.
            scores = bootstrap(
                pooled_distances(groups),
                lambda sums: {"variance": ratio(sums[..., 0], sums[..., 1])},
                seed=seed,
            )
        for head, estimate in enumerate(zip(*scores["variance"], strict=True)):
            value, low, high = (
                float(number) if np.isfinite(number) else None for number in estimate
            )
            fields = {"variance": value, "variance_low": low, "variance_high": high}
            rows.append({"kind": kind, "layer": layer, "kv_head": head, **fields, "n": n})
    return rows


def judge(rows: Sequence[Row], run: Run, config: dict[str, Any], threshold: Threshold) -> Result:
    """Return the result of measured rows: their distribution, the threshold, and what it says of
    each."""
    # Heads without a variance take no part in the distribution.
    defined = np.array([row["variance"] for row in rows if row["variance"] is not None])
    distribution = describe(defined, config["seed"])
    # Without two modes there is no valley, and no key is judged.
    cut = distribution.valley if threshold == "auto" else threshold
    judged = _judged_rows(rows, _groups(run, config["kind"]), cut)
    layouts = layouts_of(run, config["kind"], run.samples)
    groups = [name for name in dict.fromkeys(row.get("group") for row in judged) if name]
    return Result(
        command="variance",
        task=None,
        metric="variance",
        n=sum(len(layout.samples) for layout in layouts),
        rows=judged,
        config=config
        | {
            "threshold": cut,
            "threshold_from": "auto" if threshold == "auto" else "given",
            "distribution": distribution.to_json(),
            "groups": [_count(name, judged, cut) for name in groups],
            "grids": [{"grid": layout.name, "images": len(layout.samples)} for layout in layouts],
            "notes": [*_grid_notes(run, layouts), *_notes(rows, run, distribution, cut)],
        },
        versions=versions(),
        unit="variance",
    )


def _judged_rows(rows: Sequence[Row], groups: dict[str, range], cut: float | None) -> list[Row]:
    """Return rows with `input_agnostic`, None where it is not known, and the layer's group."""
    group_of = {layer: name for name, layers in groups.items() for layer in layers}
    judged = []
    for row in rows:
        # A key that hardly varies between images says little about the image.
        agnostic = None if cut is None or row["variance"] is None else bool(row["variance"] < cut)
        group = {"group": group_of[row["layer"]]} if group_of else {}
        judged.append(row | {"input_agnostic": agnostic} | group)
    return judged


def _grid_notes(run: Run, layouts: Sequence[GridLayout]) -> list[str]:
    """Say how images of several grids were pooled, and how many share theirs with none."""
    n = sum(len(layout.samples) for layout in layouts)
    n_alone = len(run.ids) - n
    remainder = f"; left out, since no other image has their grid: {n_alone}" if n_alone else ""
    if len(layouts) > 1:
        return [
            f"{n} images stand on {len(layouts)} grids: variances are those over images of one "
            f"grid, pooled over the grids{remainder}"
        ]
    return [f"{n} images of one grid, {layouts[0].name}{remainder}"] if n_alone else []


def _notes(
    rows: Sequence[Row], run: Run, distribution: Distribution, cut: float | None
) -> list[str]:
    """Say which variances are not defined, and why no cut is taken."""
    notes = []
    unknown = [
        (row["kind"], row["layer"], row["kv_head"]) for row in rows if row["variance"] is None
    ]
    if unknown:
        blocks = describe_blocks(unknown, run.config)
        notes.append(f"{len(unknown)} of {len(rows)} variances are not defined: {WHAT}: {blocks}")
    if cut is None:
        notes.append(
            f"not bimodal ({distribution.reason}): no cut is taken; give one with --threshold"
        )
    return notes


def _groups(run: Run, kind: Kind) -> dict[str, range]:
    """Return early, middle and late layers of the decoder or of the tower; what goes into the
    decoder has none."""
    geometry = run.config.model.geometry
    if kind == "projected":
        return {}
    return layer_groups(geometry.vision_layers if kind == "vision" else geometry.layers)


def _count(name: str, rows: Sequence[Row], cut: float | None) -> Row:
    """Count the input-agnostic keys of a group of layers."""
    members = [row for row in rows if row["group"] == name]
    layers = sorted({row["layer"] for row in members})
    agnostic = None if cut is None else sum(row["input_agnostic"] is True for row in members)
    return {"group": name, "layers": layers, "n_keys": len(members), "n_input_agnostic": agnostic}


def variance_config(run: Run, kind: Kind, seed: int) -> dict[str, Any]:
    """Return all that the variances depend on."""
    return {
        "algorithm": ALGORITHMS["variance"],
        **describe_run(run),
        "kind": kind,
        "seed": seed,
    }


def kept_variances(
    run: Run,
    kind: Kind,
    seed: int,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | None = None,
) -> Result:
    """Return the variances of a run under the threshold "auto", stored or measured and stored.

    One process at a time measures them. Raises BusyError where another one is still at it after
    wait_s seconds.
    """
    config = variance_config(run, kind, seed)
    store = open_store(run.store)
    key = result_key([config, "auto"])

    def measure_all() -> Result:
        """Measure the variances and store them."""
        result = judge(measure(run, kind, seed, progress), run, config, "auto")
        store.keep(key, result.to_json())
        return result

    def stored() -> Result | None:
        """Return the stored result."""
        return None if fresh else store.kept(key, Result.from_json)

    return Share(wait_s).result(run, chunk_name("variance", kind, key), stored, measure_all)

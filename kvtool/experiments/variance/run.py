"""`kvtool variance`: how much each key changes from image to image, and which are input-agnostic.

See the paper's section 3.2 and appendix A.6.1: L2 variance of every (layer, kv_head) over images,
its two modes, and the cut between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from kvtool.bounds import checked
from kvtool.errors import UsageError
from kvtool.features.variances import Threshold, judge, kept_variances, variance_config
from kvtool.outputs import check_folder
from kvtool.progress import Progress, called
from kvtool.result import Result, result_key
from kvtool.store import Run, open_store
from kvtool.store.select import Target, select_run
from kvtool.types import VECTOR_KINDS, Kind


@checked
def variance(
    target: Target,
    *,
    kind: Kind = "key",
    threshold: Threshold = "auto",
    pca: Sequence[str] = (),
    out: str | Path | None = None,
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
) -> Result:
    """Return the L2 variance over images of every (layer, kv_head) of a kind, and which are
    input-agnostic.

    The variance is the mean over base-grid token positions of the trace of the covariance over
    images; one pass over the store, in memory that does not grow with the number of images. Its
    interval is a percentile bootstrap over up to 32 groups of neighboring images, the mean over
    images held fixed. The result is stored and returned again when the same is asked for, unless
    `fresh`; another threshold needs no new pass.

    Raises UsageError where the kind is not stored, for fewer than two images, and where images do
    not share their token positions; BusyError where another process measures the same.

    Args:
        target: the run, or the store that holds it.
        kind: the kind of vectors.
        threshold: keys below it are input-agnostic. "auto" is the valley between the two modes of
            the distribution over keys (kvtool.stats.modes); where there are not two, input_agnostic
            is None in every row and config["notes"] says so.
        pca: ids of images of which to draw the principal components of every block, a PNG each,
            input-agnostic blocks framed.
        out: the folder for these pictures.
        seed: the random seed of intervals and of the test for two modes.
        fresh: whether everything is measured again.
        wait_s: how long to wait for another process that measures the same.
        progress: called with (parts read, note), and once with their number; True shows a bar.
    """
    run = select_run(target)
    _check(run, kind, threshold, pca, out)
    if out is not None:
        check_folder(out, "variance: -o")
    result = kept_variances(run, kind, seed, fresh, wait_s, called(progress))
    # Variances are kept once; another threshold only judges them anew.
    if threshold != "auto":
        config = variance_config(run, kind, seed)
        store = open_store(run.store)
        result = judge(result.rows, run, config, float(threshold))
        store.keep(result_key([config, float(threshold)]), result.to_json())
    if pca and out is not None:
        from kvtool.pictures.components import draw

        framed = {(row["layer"], row["kv_head"]) for row in result.rows if row["input_agnostic"]}
        pictures = draw(run, kind, pca, Path(out), framed)
        result = replace(result, config=result.config | {"pictures": list(map(str, pictures))})
    return result


def _check(
    run: Run, kind: Kind, threshold: Threshold, pca: Sequence[str], out: str | Path | None
) -> None:
    """Check a request before anything is read. Raises UsageError."""
    if kind not in run.config.vector_kinds:
        stored = ", ".join(run.config.vector_kinds)
        raise UsageError(
            f"variance: run {run.name} has no {kind}, only {stored} of {', '.join(VECTOR_KINDS)}: "
            "see --kind, or extract it"
        )
    if threshold != "auto" and not (math.isfinite(threshold) and threshold >= 0):
        raise UsageError(
            f"variance: threshold: expected auto or a number of 0 or more, found {threshold:g}"
        )
    if bool(pca) != (out is not None):
        raise UsageError("variance: pictures need both image ids (--pca ID) and a folder (-o DIR)")
    ids = run.ids
    for image in pca:
        if image not in ids:
            similar = ", ".join(map(repr, get_close_matches(image, ids, n=3, cutoff=0.4)))
            hint = f"; nearest: {similar}" if similar else ""
            raise UsageError(
                f"variance: no image {image!r} among the {len(ids)} of run {run.name}{hint}"
            )

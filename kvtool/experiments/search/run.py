"""`kvtool search`: the nearest patches of a whole run for one patch, exact or by an index that the
store keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from kvtool.bounds import checked
from kvtool.errors import CorruptError, StoreError, UsageError
from kvtool.experiments.search.block import choose_block
from kvtool.experiments.search.query import query_patch
from kvtool.features.patch_index import (
    PatchIndex,
    build_index,
    faiss_module,
    index_name,
    open_index,
)
from kvtool.features.patches import Best, Patches
from kvtool.progress import Progress, called
from kvtool.result import Result, Row, block_name, versions
from kvtool.store import Run, indexes
from kvtool.store.nonfinite import WHAT
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.select import Target, select_run
from kvtool.tasks.blocks import torch_device
from kvtool.types import Block, Kind

if TYPE_CHECKING:
    from kvtool.features.neighbors import Metric


@checked
def search(
    target: Target,
    image: str,
    at_px: tuple[float, float],
    *,
    kind: Kind | None = None,
    layer: int | None = None,
    kv_head: int | None = None,
    k: int = 10,
    metric: Metric = "cosine",
    exclude_self: bool = False,
    exact: bool = False,
    fresh: bool = False,
    device: str = "auto",
    progress: Progress | bool | None = None,
) -> Result:
    """Return the k patches of a run nearest to the one at a pixel, over the base grids of all its
    images.

    Rank 1 is the patch itself. The rows hold rank, image, x_px, y_px (the patch's center), row,
    col, token (among the image's tokens) and score; equal scores are ordered by (image index,
    token). config holds the block, the index with its recall_at_10 over n queries, and notes for a
    reader. Raises UsageError for an unknown image, a position outside it, a block that is not
    stored, k < 1.

    Args:
        target: the run, or the store that holds it.
        image: an image's id.
        at_px: (x, y) in pixels of the original image.
        kind: by default value, else what is stored of key, projected, vision.
        layer: by default that of the best block of the kind in the widest correspondence probe of
            the store, else in the widest probe of any task, else the middle stored layer.
        kv_head: by default that block's head, else 0.
        k: the number of patches.
        metric: the score is cosine similarity, or the negated squared distance for "l2".
        exclude_self: whether the image itself is left out.
        exact: whether every patch is read instead of the index.
        fresh: whether the index is built again.
        device: the device of the search.
        progress: called with (patches read, note, of how many) while an index is built;
            True shows a bar.
    """
    from kvtool.features.neighbors import Metric

    run = select_run(target)
    if k < 1:
        raise UsageError(f"search: expected k of at least 1, found {k}")
    if metric not in get_args(Metric):
        raise UsageError(f"search: metric is {' or '.join(get_args(Metric))}, not {metric!r}")
    compute_device = torch_device(device)
    block, reason = choose_block(run, kind, layer, kv_head)
    query = query_patch(Patches(run, block, metric), image, at_px)
    notes = [f"{block_name(vars(block))}: {reason}"]
    if count := run.nonfinite().get((block.kind, block.layer, block.kv_head)):
        notes.append(f"{count} {WHAT}: patches that hold some are left out")
    # The query is its own nearest neighbor: it is put in front without a search.
    leave_out = query.image_range if exclude_self else (query.number, query.number + 1)
    best = Best(query.vector, k if exclude_self else k - 1, metric, compute_device, leave_out)
    index_attributes = _fill(best, query.patches, exact, fresh, notes, called(progress))
    rows = [] if exclude_self else [_row(query.patches, query.number, query.own_score)]
    nearest_patches = zip(best.numbers[0].tolist(), best.scores[0].tolist(), strict=True)
    rows += [_row(query.patches, number, score) for number, score in nearest_patches]
    config = _config(run, block) | {
        "block_from": reason,
        "query": {"image": image, "at_px": list(at_px), **query.cell},
        "k": k,
        "metric": metric,
        "exclude_self": exclude_self,
        "index": index_attributes,
        "notes": notes,
    }
    ranked = [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]
    n = len(query.patches)
    return Result(
        "search", None, "score", n, ranked, config=config, versions=versions(), unit="score"
    )


def _fill(
    best: Best, patches: Patches, exact: bool, fresh: bool, notes: list[str], progress: Progress
) -> dict[str, Any]:
    """Show `best` the patches, by the index where there may be one.

    Returns what served, and notes it.
    """
    # Without an index the search is exact, and reads every patch.
    reason = "" if faiss_module() is not None else "FAISS is not installed: install kvtool[cpu]"
    if exact:
        reason = "as asked"
    # A damaged index is built again, once.
    for rebuild in () if reason else (fresh, True):
        try:
            index, origin = _index(best, patches, rebuild, progress)
            index.search_into(best)
        # What a damaged index had found must not remain.
        except indexes.DamagedIndexError as error:
            notes.append(f"index: {error}: not used")
            best.clear()
        except CorruptError:
            raise
        except StoreError as error:
            reason = str(error)
            break
        else:
            notes.append(f"index: {origin}, {_describe(index.attributes)}")
            return index.attributes
    notes.append(f"no index: {reason or 'it was damaged twice'}; every patch was read")
    for chunk in patches.chunks():
        best.add(*chunk)
    return {"kind": "none", "patches": len(patches), "recall_at_10": None, "n": 0}


def _index(
    best: Best, patches: Patches, rebuild: bool, progress: Progress
) -> tuple[PatchIndex, str]:
    """Return the index of the patches, stored or built, and which of the two."""
    if rebuild:
        indexes.drop(patches.run, index_name(patches))
    elif (stored := open_index(patches)) is not None:
        return stored, "kept"
    return build_index(patches, best.device, progress), "built"


def _describe(attributes: dict[str, Any]) -> str:
    """Describe an index in words."""
    kind = (
        "flat"
        if attributes["kind"] == "flat"
        else f"{attributes['lists']} lists of which {attributes['probed']} are read"
    )
    recall = attributes["recall_at_10"]
    measured = "not measured" if recall is None else f"{recall:.3f} over {attributes['n']} queries"
    return f"{kind}, {attributes['patches']} patches, recall_at_10 {measured}"


def _row(patches: Patches, number: int, score: float) -> Row:
    """Return the row of a patch."""
    sample, row, col = patches.place(number)
    span = patches.span(sample)
    x_px, y_px = span.centre_px(row, col)
    token = span.start + row * span.row_stride + col
    position = {
        "image": sample.id,
        "x_px": x_px,
        "y_px": y_px,
        "row": row,
        "col": col,
        "token": token,
    }
    # Adding 0.0 turns -0.0 into 0.0.
    return position | {"score": score + 0.0}


def _config(run: Run, block: Block) -> dict[str, Any]:
    return {
        "algorithm": ALGORITHMS["search"],
        **describe_run(run),
        "kind": block.kind,
        "layer": block.layer,
        "kv_head": block.kv_head,
    }

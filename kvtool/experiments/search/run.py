"""`kvtool search`: the nearest patches of a whole run for one patch, exact or by an index that the
store keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from kvtool.bounds import checked
from kvtool.errors import CorruptError, KvtoolError, StoreError, UsageError
from kvtool.features.patch_index import (
    PatchIndex,
    build_index,
    faiss_module,
    index_name,
    open_index,
)
from kvtool.features.patches import Array, Best, Patches
from kvtool.result import Result, Row, best_row, block_name, is_summary, versions
from kvtool.store import Run, indexes, open_store
from kvtool.store.kept import results_among
from kvtool.store.nonfinite import WHAT
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.select import Target, select_run
from kvtool.tasks.blocks import torch_device
from kvtool.types import KINDS, Block, Kind, Sample

if TYPE_CHECKING:
    from kvtool.features.neighbors import Metric

PREFERRED: tuple[Kind, ...] = ("value", "key", "projected", "vision")
Progress = Callable[..., object]


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
    progress: Progress | None = None,
) -> Result:
    """The k patches of a run nearest to the one at a pixel, over the base grids of all its images.

    image: an id; at_px: (x, y) in pixels of the original image. kind: by default value, else what
    is stored of key, projected, vision. layer, kv_head: by default the best block of that kind in
    the last correspondence probe kept in the store, else in the last probe of any task, else the
    middle stored layer, head 0. metric: the score is cosine similarity, or the negated squared
    distance for "l2". Rank 1 is the patch itself; exclude_self leaves out its whole image. exact:
    read every patch instead of using the index; fresh: build the index again. progress: called with
    (patches read, note, of how many) while an index is built.

    Rows: rank, image, x_px, y_px (the patch's centre), row, col, token (among the image's tokens),
    score; equal scores by lowest (image index, token). config: block, index with its recall_at_10
    over n queries, and notes for a reader. Raises UsageError for an unknown image, a position
    outside it, a block that is not stored, k < 1.
    """
    from kvtool.features.neighbors import Metric

    run = select_run(target)
    if k < 1:
        raise UsageError(f"search: expected k of at least 1, found {k}")
    if metric not in get_args(Metric):
        raise UsageError(f"search: metric is {' or '.join(get_args(Metric))}, not {metric!r}")
    where = torch_device(device)
    block, chosen = choose_block(run, kind, layer, kv_head)
    query = _query(Patches(run, block, metric), image, at_px)
    notes = [f"{block_name(vars(block))}: {chosen}"]
    if count := run.nonfinite().get((block.kind, block.layer, block.kv_head)):
        notes.append(f"{count} {WHAT}: patches that hold some are left out")
    leave_out = query.image_range if exclude_self else (query.number, query.number + 1)
    best = Best(query.vector, k if exclude_self else k - 1, metric, where, leave_out)
    about = _fill(best, query.patches, exact, fresh, notes, progress or (lambda *_: None))
    rows = [] if exclude_self else [_row(query.patches, query.number, query.own_score)]
    found = zip(best.numbers[0].tolist(), best.scores[0].tolist(), strict=True)
    rows += [_row(query.patches, number, score) for number, score in found]
    config = _config(run, block) | {
        "block_from": chosen,
        "query": {"image": image, "at_px": list(at_px), **query.cell},
        "k": k,
        "metric": metric,
        "exclude_self": exclude_self,
        "index": about,
        "notes": notes,
    }
    rows = [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]
    return Result(
        "search",
        None,
        "score",
        len(query.patches),
        rows,
        config=config,
        versions=versions(),
        unit="score",
    )


@dataclass(frozen=True)
class Query:
    """The patch asked for: its number among all, the numbers of its image, its vector (1, dim)."""

    patches: Patches
    number: int
    image_range: tuple[int, int]
    vector: Array

    @property
    def own_score(self) -> float:
        """Of the patch with itself: 1, or 0 for a zero vector; 0 for "l2"."""
        from kvtool.features.neighbors import nearest

        score, _ = nearest(
            self.vector[None], self.vector[None], metric=self.patches.metric, backend="numpy"
        )
        return float(score[0, 0, 0])

    @property
    def cell(self) -> Row:
        _, row, col = self.patches.place(self.number)
        return {"row": row, "col": col}


def _query(patches: Patches, image: str, at_px: tuple[float, float]) -> Query:
    ids = [sample.id for sample in patches.samples]
    if image not in ids:
        near = get_close_matches(image, ids, n=3, cutoff=0.4)
        hint = f"; nearest: {', '.join(map(repr, near))}" if near else ""
        raise UsageError(
            f"search: no image {image!r} among the {len(ids)} of run {patches.run.name}{hint}"
        )
    position = ids.index(image)
    sample = patches.samples[position]
    _check_inside(sample, patches, at_px)
    start, stop = patches.image_range(position)
    row, col = patches.span(sample).cell_at(*at_px)
    number = start + row * patches.span(sample).grid[1] + col
    _, vector = patches.gather(np.array([number], np.int64))
    if not len(vector):
        raise KvtoolError(
            f"search: the vector at {_at(at_px)} of image {image} is not finite: choose another "
            "patch"
        )
    return Query(patches, number, (start, stop), vector)


def _check_inside(sample: Sample, patches: Patches, at_px: tuple[float, float]) -> None:
    """Raise UsageError for a position outside the image, or outside what the model saw of it."""
    x_px, y_px = at_px
    width, height = sample.image_wh_px
    x0, y0, x1, y1 = patches.span(sample).cover_xyxy_px
    left = max(x0, 0)
    top = max(y0, 0)
    right = min(x1, width)
    bottom = min(y1, height)
    if not (left <= x_px < right and top <= y_px < bottom):
        cropped = (
            ""
            if (left, top, right, bottom) == (0, 0, width, height)
            else ", of which the model saw a part"
        )
        raise UsageError(
            f"search: {_at(at_px)} is outside image {sample.id} ({width} x {height} px{cropped}): "
            f"expected x from {left:g} to below {right:g}, y from {top:g} to below {bottom:g}"
        )


def _at(at_px: tuple[float, float]) -> str:
    return f"--at {at_px[0]:g},{at_px[1]:g}"


def choose_block(
    run: Run, kind: Kind | None, layer: int | None, kv_head: int | None
) -> tuple[Block, str]:
    """The block to search, and in words why it is that one. Raises UsageError where it is not
    stored."""
    stored = run.config.kinds
    kind = kind or next(one for one in PREFERRED if one in stored)
    if kind not in stored:
        listed = ", ".join(stored)
        raise UsageError(
            f"search: run {run.name} has no {kind}, only {listed} of {', '.join(KINDS)}: see --kind"
        )
    layers = run.config.stored_layers(kind)
    heads = run.config.heads_and_dim(kind)[0]
    if layer is not None and layer not in layers:
        raise UsageError(
            f"search: run {run.name} has no layer {layer} of {kind}, only "
            f"{', '.join(map(str, layers))}"
        )
    if kv_head is not None and not 0 <= kv_head < heads:
        raise UsageError(
            f"search: run {run.name} has no kv_head {kv_head} of {kind}: expected 0 to {heads - 1}"
        )
    if layer is not None and kv_head is not None:
        return Block(kind, layer, kv_head), "as asked"
    for result in _probes(run):
        if (row := _best_of(result, kind, layer, kv_head)) is not None:
            return Block(
                kind, row["layer"], row["kv_head"]
            ), f"best of the kept probe {result.task}"
    spoiled = run.nonfinite()
    sound = [number for number in layers if (kind, number, kv_head or 0) not in spoiled] or layers
    middle = sound[len(sound) // 2] if layer is None else layer
    return Block(
        kind, middle, kv_head or 0
    ), "no kept probe says which is best: middle layer, head 0 unless given"


def _probes(run: Run) -> list[Result]:
    """Kept probe results of a run: correspondence first, the latest first."""
    kept = [
        result
        for result in results_among(open_store(run.store).results())
        if result.command == "probe" and result.config.get("run_hash") == run.config.hash
    ]
    return sorted(kept, key=lambda result: "correspondence" not in (result.task or ""))


def _best_of(result: Result, kind: Kind, layer: int | None, kv_head: int | None) -> Row | None:
    """The best block of a kind in a result, among those of the layer or head asked for."""

    def fits(row: Row | None) -> bool:
        asked = {"kind": kind} | {
            name: v for name, v in (("layer", layer), ("kv_head", kv_head)) if v is not None
        }
        return row is not None and all(row.get(name) == value for name, value in asked.items())

    if fits(result.best):
        return result.best
    rows = [row for row in result.rows if fits(row) and is_summary(row)]
    return best_row(rows, result.metric, result.higher_is_better)


def _fill(
    best: Best, patches: Patches, exact: bool, fresh: bool, notes: list[str], progress: Progress
) -> dict[str, Any]:
    """Show `best` the patches, by the index where there may be one; returns what served, and notes
    it."""
    why = (
        "as asked"
        if exact
        else ""
        if faiss_module() is not None
        else "FAISS is not installed: install kvtool[cpu]"
    )
    for rebuild in () if why else (fresh, True):
        try:
            index, how = _index(best, patches, rebuild, progress)
            index.search_into(best)
        except indexes.DamagedIndexError as error:
            notes.append(f"index: {error}: not used")
            best.clear()
        except CorruptError:
            raise
        except StoreError as error:
            why = str(error)
            break
        else:
            notes.append(f"index: {how}, {_describe(index.attributes)}")
            return index.attributes
    notes.append(f"no index: {why or 'it was damaged twice'}; every patch was read")
    for chunk in patches.chunks():
        best.add(*chunk)
    return {"kind": "none", "patches": len(patches), "recall_at_10": None, "n": 0}


def _index(
    best: Best, patches: Patches, rebuild: bool, progress: Progress
) -> tuple[PatchIndex, str]:
    if rebuild:
        indexes.drop(patches.run, index_name(patches))
    elif (kept := open_index(patches)) is not None:
        return kept, "kept"
    return build_index(patches, best.device, progress), "built"


def _describe(about: dict[str, Any]) -> str:
    kind = (
        "flat"
        if about["kind"] == "flat"
        else f"{about['lists']} lists of which {about['probed']} are read"
    )
    recall = about["recall_at_10"]
    measured = "not measured" if recall is None else f"{recall:.3f} over {about['n']} queries"
    return f"{kind}, {about['patches']} patches, recall_at_10 {measured}"


def _row(patches: Patches, number: int, score: float) -> Row:
    sample, row, col = patches.place(number)
    span = patches.span(sample)
    x_px, y_px = span.centre_px(row, col)
    token = span.start + row * span.row_stride + col
    where = {"image": sample.id, "x_px": x_px, "y_px": y_px, "row": row, "col": col, "token": token}
    return where | {"score": score + 0.0}  # 0.0 in place of -0.0


def _config(run: Run, block: Block) -> dict[str, Any]:
    return {
        "algorithm": ALGORITHMS["search"],
        **describe_run(run),
        "kind": block.kind,
        "layer": block.layer,
        "kv_head": block.kv_head,
    }

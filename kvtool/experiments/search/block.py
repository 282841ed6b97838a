"""The block that `kvtool search` takes: the one asked for, or the best of the store's probes."""

from __future__ import annotations

from kvtool.errors import UsageError
from kvtool.result import Result, Row, is_summary
from kvtool.store import Run, open_store
from kvtool.store.kept import extent, results_among
from kvtool.types import VECTOR_KINDS, Block, Kind

PREFERRED: tuple[Kind, ...] = ("value", "key", "projected", "vision", "hidden")


def choose_block(
    run: Run, kind: Kind | None, layer: int | None, kv_head: int | None
) -> tuple[Block, str]:
    """Return the block to search, and the reason in words. Raises UsageError where it is not
    stored."""
    preferred = (name for name in PREFERRED if name in run.config.kinds)
    block_kind: Kind = next(preferred) if kind is None else kind
    _check_block(run, block_kind, layer, kv_head)
    # A block that is fully named needs no probe.
    if layer is not None and kv_head is not None:
        return Block(block_kind, layer, kv_head), "as asked"
    for result in _probes(run):
        if (row := _best_of(result, block_kind, layer, kv_head)) is not None:
            block = Block(block_kind, row["layer"], row["kv_head"])
            return block, f"best of the kept probe {result.task}"
    # A block with values that are not finite is no good default.
    layers = run.config.stored_layers(block_kind)
    nonfinite = run.nonfinite()
    head = kv_head or 0
    layers = tuple(n for n in layers if head < run.config.count_heads(block_kind, n))
    sound = [number for number in layers if (block_kind, number, head) not in nonfinite] or layers
    middle = sound[len(sound) // 2] if layer is None else layer
    reason = "no kept probe says which is best: middle layer, head 0 unless given"
    return Block(block_kind, middle, head), reason


def _check_block(run: Run, kind: Kind, layer: int | None, kv_head: int | None) -> None:
    """Check that a kind, layer and head are stored. Raises UsageError."""
    stored = run.config.vector_kinds
    if kind not in stored:
        listed = ", ".join(stored)
        raise UsageError(
            f"search: run {run.name} has no {kind}, only {listed} of {', '.join(VECTOR_KINDS)}: "
            "see --kind"
        )
    layers = run.config.stored_layers(kind)
    if layer is not None and layer not in layers:
        raise UsageError(
            f"search: run {run.name} has no layer {layer} of {kind}, only "
            f"{', '.join(map(str, layers))}"
        )
    heads = run.config.heads_and_dim(kind, layer)[0]
    if kv_head is not None and not 0 <= kv_head < heads:
        raise UsageError(
            f"search: run {run.name} has no kv_head {kv_head} of {kind}: expected 0 to {heads - 1}"
        )


def _probes(run: Run) -> list[Result]:
    """Return the stored probe results of a run: correspondence first, of each the widest first,
    and of equals the latest."""
    results = [
        result
        for result in results_among(open_store(run.store).results())
        if result.command == "probe" and result.config.get("run_hash") == run.config.hash
    ]

    def rank(result: Result) -> tuple[bool, int, int]:
        """Return what a result is sorted by."""
        n_blocks, n_units = extent(result)
        # Correspondence asks for the same as a search: patches that match.
        return "correspondence" not in (result.task or ""), -n_blocks, -n_units

    return sorted(results, key=rank)


def _best_of(result: Result, kind: Kind, layer: int | None, kv_head: int | None) -> Row | None:
    """Return the best block of a kind in a result, among those of the layer or head asked for."""

    request = {"kind": kind, "layer": layer, "kv_head": kv_head}
    fields = {name: value for name, value in request.items() if value is not None}

    def fits(row: Row | None) -> bool:
        """Tell whether a row is about such a block."""
        return row is not None and fields.items() <= row.items()

    if fits(result.best):
        return result.best
    return result.best_of([row for row in result.rows if fits(row) and is_summary(row)])

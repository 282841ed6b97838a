"""What a reader has to know of a study's table: the lines below it."""

from __future__ import annotations

from collections.abc import Iterator

from kvtool.experiments.sae.alignment import (
    CHANCE,
    LEAST_TRANSFER,
    MOST_RATIO,
    NEAR_BEST,
)
from kvtool.experiments.sae.series import (
    EXCEEDS,
    IMAGE,
    TEXT,
    alignment,
    condition_rows,
    control_range,
    is_number,
    layer_interval,
    sought,
)
from kvtool.result import Result, Row

FEW_IMAGES = 30
"""Of fewer images the interval of a control is often too narrow."""
MEASURED = ("mse", "fvu", "l0", "cos", "norm", "transfer", "directions")
"""Where all of these are equal, two conditions are the same vectors."""


def remarks(result: Result) -> Iterator[str]:
    """Yield the lines that apply to a result."""
    field = sought(result)
    ends = control_range(result.rows, field)
    # A few images leave even controls away from chance: they are the level to read against.
    if ends is not None:
        yield (
            f"{EXCEEDS} the interval of the image's {field} lies above {CHANCE} and above every "
            "control's value in its layer"
        )
        if result.n < FEW_IMAGES and ends[1] > CHANCE:
            yield (
                f"with {result.n} images a control may reach {ends[1]:.2f}, as the highest did "
                f"here: read {field} against the highest control, not against {CHANCE}"
            )
    if is_prefix_equal(result):
        yield "text-prefix equals text: captions stand behind the same opening in both"
    if (line := alignment_line(result)) is not None:
        yield line


def is_prefix_equal(result: Result) -> bool:
    """Tell whether captions at the image's place have the same numbers as captions alone."""
    captions, prefixed = (
        [[row.get(field) for field in MEASURED] for row in condition_rows(result.rows, condition)]
        for condition in (TEXT, "text-prefix")
    )
    return bool(prefixed) and captions == prefixed


def alignment_line(result: Result) -> str | None:
    """Say the layer from which image tokens read as text, by each measure, and what the last layer
    lacks where there is none; None where it was not computed."""
    entries = [
        entry
        for by in ("fvu", "transfer", "directions")
        if (entry := alignment(result, by)) is not None
    ]
    if not entries:
        return None
    layers = ", ".join(f"{layer_interval(entry)} by {entry['by']}" for entry in entries)
    reasons = "; ".join(
        f"{entry['by']}: {_shortfall(result, entry['by'])}"
        for entry in entries
        if entry["layer"] is None
    )
    line = f"layer from which on image tokens read as text: {layers}"
    return f"{line} ({reasons})" if reasons else line


def _shortfall(result: Result, by: str) -> str:
    """Say what the last layer lacks: the rules are those of kvtool.experiments.sae.alignment."""
    by_layer: dict[int, Row] = {}
    for row in condition_rows(result.rows, IMAGE):
        # Of several SAEs of a layer the first counts.
        by_layer.setdefault(row["layer"], row)
    last = by_layer[max(by_layer)]
    if by == "fvu":
        ratio = last.get("fvu_ratio_high")
        if not is_number(ratio):
            return "not defined in the last layer"
        return f"up to {ratio:.3g} times the text's in the last layer, not below {MOST_RATIO}"
    values = [row.get(by) for row in by_layer.values()]
    if not all(map(is_number, values)):
        return "not defined in every layer"
    best = max(float(value) for value in values if value is not None)
    if last[by] > NEAR_BEST * best:
        low = last[f"{by}_low"]
        return f"its interval begins at {low:.2f} in the last layer, not above {LEAST_TRANSFER}"
    return f"{last[by]:.2f} in the last layer, not above {NEAR_BEST} of the best, {best:.2f}"

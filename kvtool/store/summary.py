"""A run in one row: its settings, what it holds, who works on it and how fast.

Damage is counted, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kvtool.errors import StoreError
from kvtool.store import layout
from kvtool.store.files import member_names
from kvtool.store.parts import Part
from kvtool.store.roster import Roster
from kvtool.store.texts import VERSION as TEXT_VERSION

if TYPE_CHECKING:
    from kvtool.store.run import Run

PACE_S = 600.0


def summarize(run: Run) -> dict[str, Any]:
    """Return one row for `kvtool store runs`: settings, images, parts, bytes of the arrays."""
    config, parts, texts = run.config, *(run.readable(group) for group in ("parts", "text"))
    roster = _readable_roster(run)
    indices = {index for part in parts for index in part.indices}
    # Damaged parts are counted as members that did not open.
    n_members = sum(len(member_names(run.folder / group)) for group in ("parts", "text"))
    return {
        "run": run.name,
        "hash": config.hash,
        "model": config.model.name,
        "revision": config.model.revision,
        "dtype": config.model.dtype,
        "quantization": config.model.quantization,
        "dataset": config.dataset,
        "split": config.split,
        "place": roster.dataset_path if roster.n_segments else config.dataset_path,
        "prefix": config.prefix,
        "system": config.system,
        **vars(config.input_size),
        "view": config.view,
        "keys": config.keys,
        "kinds": list(config.kinds),
        "layers": list(run.layers),
        "heads": config.heads_in_words(),
        "vision_layers": list(config.vision_layers),
        "codec": config.codec,
        "images": len(indices),
        # Pictures that left the data set may still be stored.
        "images_total": max(len(roster.index_of), len(indices)),
        "texts": sum(
            len(part.attributes["names"])
            for part in texts
            if part.attributes.get("version", 1) == TEXT_VERSION
        ),
        "parts": len(parts),
        "bytes": sum(part.nbytes for part in [*parts, *texts]),
        "damaged_parts": n_members - len(parts) - len(texts),
        "held": [
            f"{name} by {owner or 'an unknown process'}" for name, owner in run.holders().items()
        ],
        "images_per_minute": pace(parts),
        "last_commit": last_commit(parts),
    }


def _readable_roster(run: Run) -> Roster:
    """Return the roster, or an empty one where it is damaged."""
    try:
        return run.roster
    except StoreError:
        return Roster()


def pace(parts: Sequence[Part]) -> float | None:
    """Return how many images a minute were committed over the last PACE_S of the commits, by the
    clock of the file server; None for fewer than two.
    """
    # The time of a part's own record, which is written last, is that of its commit.
    times = sorted(
        (stamp, len(part.indices)) for part in parts if (stamp := _committed_s(part)) is not None
    )
    recent = [(stamp, images) for stamp, images in times if stamp >= times[-1][0] - PACE_S]
    seconds = recent[-1][0] - recent[0][0] if recent else 0.0
    # The first commit of the span only begins it: its images were made before.
    return round(60 * sum(images for _, images in recent[1:]) / seconds, 1) if seconds > 0 else None


def last_commit(parts: Sequence[Part]) -> str | None:
    """Return when the newest part was committed, in UTC, e.g. "2026-11-29 19:01"; None where there
    is none.
    """
    stamps = [stamp for part in parts if (stamp := _committed_s(part)) is not None]
    if not stamps:
        return None
    return datetime.fromtimestamp(max(stamps), UTC).strftime("%Y-%m-%d %H:%M")


def _committed_s(part: Part) -> float | None:
    with suppress(OSError):
        return (part.folder / layout.ZARR_JSON).stat().st_mtime
    return None

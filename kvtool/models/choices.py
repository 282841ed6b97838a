"""Which kinds and layers a user chose of what a model has."""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.errors import UsageError
from kvtool.layers import LayerChoice, named_layers
from kvtool.types import KINDS, SALIENCY, Kind


def chosen_kinds(
    kinds: Sequence[Kind] | None, available: Sequence[Kind], has_saliency: bool = False
) -> tuple[Kind, ...]:
    """A family's kinds that a user chose, in the order of `available`; None means those of them
    that are held by default.

    has_saliency: whether its tower has a token that attends to all patches, so that `saliency` can
        be chosen beside them. Raises UsageError.
    """
    if kinds is None:
        return tuple(kind for kind in available if kind in KINDS)
    if SALIENCY in kinds:
        if not has_saliency:
            raise UsageError(
                "kinds: saliency: expected a tower with a class token or a pooling head, found "
                "none in this model; leave it out"
            )
        if not set(kinds) - {SALIENCY}:
            raise UsageError(
                f"kinds: expected some of {', '.join(available)} beside saliency, found it alone"
            )
        # Saliency stands behind the kinds of vectors, whatever order was asked for.
        return (*chosen_kinds([kind for kind in kinds if kind != SALIENCY], available), SALIENCY)
    if unknown := [kind for kind in kinds if kind not in available]:
        raise UsageError(
            f"kinds: expected some of {', '.join(available)} of this model, found {unknown[0]!r}"
        )
    if not kinds:
        raise UsageError(f"kinds: expected at least one of {', '.join(available)}, found none")
    return tuple(kind for kind in available if kind in kinds)


def chosen_layers(
    layers: LayerChoice | None, count: int, default: Sequence[int]
) -> tuple[int, ...]:
    """Layers that a user chose, sorted, each once; None means the default. Raises UsageError."""
    if layers is None:
        return tuple(default)
    if isinstance(layers, str):
        layers = named_layers(layers, count)
    if outside := [layer for layer in layers if not 0 <= layer < count]:
        raise UsageError(
            f"layers: expected numbers from 0 to {count - 1}, found {outside[0]}; choose among "
            "these"
        )
    if not layers:
        raise UsageError(f"layers: expected at least one from 0 to {count - 1}, found none")
    return tuple(sorted(set(layers)))

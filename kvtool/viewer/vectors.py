"""Vectors of one image, as the browser gets them: the stored bits, decoded from their chunk."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtool.errors import UsageError
from kvtool.store.encoding import Bits
from kvtool.types import VECTOR_KINDS, Kind
from kvtool.viewer.replies import VECTORS, Reply, ViewRequest
from kvtool.viewer.viewed_run import ViewedRun


def kind_of(request: ViewRequest) -> Kind:
    """Return the kind of vectors that is asked for. Raises UsageError."""
    name = request.text("kind")
    for kind in VECTOR_KINDS:
        if kind == name:
            return kind
    raise UsageError(f"kind: expected one of {', '.join(VECTOR_KINDS)}, found {name[:40]!r}")


def block_reply(viewed: ViewedRun, request: ViewRequest) -> Reply:
    """Return the vectors (token, dim) of one head of an image; those of all heads of some layers,
    (layer, kv_head, token, dim), where `layer` names several ("3,4,5") and `kv_head` none.
    """
    kind, layers = kind_of(request), request.numbers("layer")
    sample = viewed.sample(request.text("image"))
    if "kv_head" in request.texts:
        block: tuple[Any, Any] = (request.number("layer"), request.number("kv_head"))
    else:
        block = (layers, range(_count_heads(viewed, kind, layers[0])))
    with viewed.lock:
        values = viewed.run.read(kind, *block, [sample.id], raw=True).values
    name = viewed.lasting_name(request, sample)
    return vectors_reply(values, viewed.run.config.model.dtype, name)


def _count_heads(viewed: ViewedRun, kind: Kind, layer: int) -> int:
    """Return how many heads a layer has; of one that is not stored the run's reader tells."""
    config = viewed.run.config
    is_stored = kind in config.kinds and layer in config.stored_layers(kind)
    return config.count_heads(kind, layer) if is_stored else 1


def vectors_reply(values: Bits, dtype: str, name: str = "") -> Reply:
    """Return an array as its bytes in C order, little-endian, with its shape and dtype."""
    labels = {"dtype": dtype, "shape": ",".join(map(str, values.shape))}
    body = np.ascontiguousarray(values).tobytes()
    return Reply(body, VECTORS, name, labels)

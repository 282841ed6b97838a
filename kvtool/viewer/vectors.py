"""Vectors of one image, as the browser gets them: the stored bits, decoded from their chunk."""

from __future__ import annotations

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
    """Return the vectors (token, dim) of one head of an image, or those of all heads of the layer,
    (head, token, dim), where `kv_head` is absent.
    """
    kind, layer = kind_of(request), request.number("layer")
    sample = viewed.sample(request.text("image"))
    heads = viewed.run.config.count_heads(kind, layer) if _has_layer(viewed, kind, layer) else 0
    kv_head = request.number("kv_head") if "kv_head" in request.texts else range(heads)
    with viewed.lock:
        values = viewed.run.read(kind, layer, kv_head, [sample.id], raw=True).values
    name = viewed.lasting_name(request, sample)
    return vectors_reply(values, viewed.run.config.model.dtype, name)


def _has_layer(viewed: ViewedRun, kind: Kind, layer: int) -> bool:
    config = viewed.run.config
    return kind in config.kinds and layer in config.stored_layers(kind)


def vectors_reply(values: Bits, dtype: str, name: str = "") -> Reply:
    """Return an array as its bytes in C order, little-endian, with its shape and dtype."""
    labels = {"dtype": dtype, "shape": ",".join(map(str, values.shape))}
    body = np.ascontiguousarray(values).tobytes()
    return Reply(body, VECTORS, name, labels)

"""Vectors of one image, as the browser gets them: the stored bits, decoded from their chunk; and
maps of one patch in all heads, which are there before so many vectors are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    # One head in its own precision, or all heads of some layers in one reply.
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


def maps_reply(viewed: ViewedRun, request: ViewRequest) -> Reply:
    """Return the cosine of one token with each patch of its image in all heads of some layers:
    (head, cell) in float32, layer after layer.

    All vectors of an image are 21 MB for a 7B, these 0.3 MB: the browser shows them while the
    vectors, of which it computes every other map, are on their way.
    """
    kind, layers = kind_of(request), request.numbers("layer")
    sample, token = viewed.sample(request.text("image")), request.number("token")
    # Only patches of the base grid have a place on the picture.
    cells = sample.base(kind).token_indices()
    maps = []
    for layer in dict.fromkeys(layers):
        heads = range(_count_heads(viewed, kind, layer))
        with viewed.lock:
            vectors = viewed.run.read(kind, layer, heads, [sample.id]).values
        if token >= vectors.shape[1]:
            count = vectors.shape[1]
            raise UsageError(f"token: expected one of {count} of {sample.id}, found {token}")
        maps.append(cosine_maps(vectors, token)[:, cells])
    name = viewed.lasting_name(request, sample)
    return vectors_reply(np.concatenate(maps), "float32", name)


def cosine_maps(vectors: NDArray[np.float32], token: int) -> NDArray[np.float32]:
    """Return the cosine (head, token) of a token with all tokens, by vectors (head, token, dim)."""
    # What is not finite gives NaN, which has no color.
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.einsum("htd,htd->ht", vectors, vectors))
        # A vector of zeros has a cosine of 0 with everything.
        scales = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths != 0)
        query = vectors[:, token] * scales[:, token, None]
        products = np.matmul(vectors, query[:, :, None])[:, :, 0]
        return np.asarray(products * scales)


def vectors_reply(values: Bits, dtype: str, name: str = "") -> Reply:
    """Return an array as its bytes in C order, little-endian, with its shape and dtype."""
    labels = {"dtype": dtype, "shape": ",".join(map(str, values.shape))}
    body = np.ascontiguousarray(values).tobytes()
    return Reply(body, VECTORS, name, labels)

"""Which arrays a run has: their names, layers and shapes, and where each image lies in them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from kvtool.display import numbered
from kvtool.geometry import LayerArray, array_kind
from kvtool.types import HIDDEN, SALIENCY, TOWER_KINDS, VECTOR_KINDS, Kind, ModelInfo, Sample

CACHE_KINDS = ("key", "value")
TEXT_KINDS = {"text_key": "key", "text_value": "value"}
"""Arrays of the prompt's tokens before the image, and the kind whose geometry they share."""
TEXT_MEAN = "projected_mean"
"""Of a class name or expression: the mean of its input embeddings, beside that of its last token.
"""


class StoredArrays:
    """What the settings of a run say of its arrays."""

    model: ModelInfo
    kinds: tuple[Kind, ...]
    layers: tuple[int, ...]
    vision_layers: tuple[int, ...]

    @property
    def cached_layers(self) -> tuple[int, ...]:
        """The chosen layers that have keys and values of their own."""
        return self.model.geometry.cached(self.layers)

    @property
    def vector_kinds(self) -> list[Kind]:
        """The kinds of vectors that are stored; saliency is none."""
        return [kind for kind in self.kinds if kind in VECTOR_KINDS]

    def arrays_of(self, kind: str) -> tuple[LayerArray, ...]:
        """Return the arrays of a kind (or of text_key, text_value): several where its layers differ
        in shape.
        """
        if kind in (*CACHE_KINDS, *TEXT_KINDS):
            return self.model.geometry.cache_arrays(kind, self.layers)
        # All kinds but keys and values have one head.
        return (LayerArray(kind, self._layers_of_one_head(kind), 1, self._dim_of_one_head(kind)),)

    def array_at(self, kind: str, layer: int) -> LayerArray:
        """Return the array that holds a stored layer of a kind."""
        return next(array for array in self.arrays_of(kind) if layer in array.layers)

    def _layers_of_one_head(self, kind: str) -> tuple[int, ...]:
        if kind in ("projected", TEXT_MEAN):
            return (0,)
        if kind == SALIENCY:
            # Of a tower before a decoder nothing after the last layer that feeds it is run.
            geometry = self.model.geometry
            last = max(self.vision_layers) if geometry.layers else geometry.vision_layers - 1
            return (last,)
        return self.vision_layers if kind == "vision" else self.layers

    def _dim_of_one_head(self, kind: str) -> int:
        if kind == SALIENCY:
            return 1
        geometry = self.model.geometry
        return geometry.vision_dim if kind == "vision" else geometry.hidden

    def stored_layers(self, name: str) -> tuple[int, ...]:
        """Return the model's number of each stored layer of a kind or of an array; projected has
        layer 0, saliency the last layer of the tower that is run. Layers without keys and values
        of their own have none stored.
        """
        kind = array_kind(name)
        # An array of one shape holds some of its kind's layers; the kind's name stands for all.
        layers = [array.layers for array in self.arrays_of(kind) if name in (kind, array.name)]
        return tuple(sorted(layer for numbers in layers for layer in numbers))

    def heads_and_dim(self, name: str, layer: int | None = None) -> tuple[int, int]:
        """Return the heads and dim of the vectors of a kind or of an array; only keys and values
        have more than one head, and saliency has one dimension.

        layer: the stored layer whose heads are meant; without it, and where layers differ, the
            largest numbers are returned.
        """
        kind = array_kind(name)
        shapes = [
            (array.heads, array.dim)
            for array in self.arrays_of(kind)
            if name in (kind, array.name) and (layer is None or layer in array.layers)
        ]
        # Of a kind with layers of several shapes the largest numbers count.
        heads, dims = zip(*shapes, strict=True) if shapes else ((0,), (0,))
        return max(heads), max(dims)

    def count_heads(self, array: str, layer: int) -> int:
        """Return how many heads a layer of the model has in an array; "text" has the values'."""
        has_heads = array_kind(array) in (*CACHE_KINDS, *TEXT_KINDS, "text")
        return self.model.geometry.shape(layer)[0] if has_heads else 1

    def blocks_of(self, kind: str, layers: Sequence[int]) -> list[tuple[tuple[int, ...], int]]:
        """Return stored layers of a kind in groups of equal numbers of heads: (layers, heads)."""
        groups: dict[int, list[int]] = {}
        for layer in layers:
            groups.setdefault(self.count_heads(kind, layer), []).append(layer)
        return [(tuple(numbers), heads) for heads, numbers in groups.items()]

    def heads_in_words(self) -> str:
        """Return how many heads of how many dimensions the layers with keys and values have."""
        geometry = self.model.geometry
        arrays = geometry.cache_arrays("value", self.layers)
        shapes = [f"{array.heads} of {array.dim} dims" for array in arrays]
        if len(shapes) > 1:
            shapes = [
                f"{shape} in {numbered('layer', array.layers)}"
                for shape, array in zip(shapes, arrays, strict=True)
            ]
        absent = [layer for layer in self.layers if layer not in self.cached_layers]
        return "; ".join([*shapes, *([f"none in {numbered('layer', absent)}"] if absent else [])])

    def array_names(self) -> list[str]:
        """Return the arrays of each part: those of its kinds, and the text before the image for
        those of the decoder's cache.
        """
        texts = [name for name, kind in TEXT_KINDS.items() if kind in self.kinds]
        return [array.name for kind in (*self.kinds, *texts) for array in self.arrays_of(kind)]


def dimension_names(
    array: str, is_text: bool = False, streams_alone: bool = False
) -> tuple[str, ...]:
    """Return the names of an array's four dimensions.

    Arrays of a part share a name only where they share the dimension, so that xarray opens the part
    as one data set.

    is_text: whether the array holds the vectors of class names and expressions, a text in place of
        a token.
    streams_alone: whether some layers have a stream, and no keys and values.
    """
    kind = array_kind(array)
    # Arrays of layers of another shape carry it in their name, as key_8x256.
    shape = array.removeprefix(kind)
    if array in ("projected", TEXT_MEAN, *TOWER_KINDS):
        token = "vision_token" if array in TOWER_KINDS else "token"
        kind = "projected" if array == TEXT_MEAN else array
        return f"{kind}_layer", f"{kind}_head", "text" if is_text else token, f"{kind}_dim"
    if array == HIDDEN:
        # Where some layers have no keys and values, the two axes of layers differ in length.
        layer = "hidden_layer" if streams_alone else "layer"
        return layer, "hidden_head", "token", "hidden_dim"
    token = "text" if is_text else "text_token" if kind in TEXT_KINDS else "token"
    # Arrays of another shape hold other layers, heads and dimensions.
    return f"layer{shape}", f"kv_head{shape}", token, f"dim{shape}"


def token_counts(samples: Sequence[Sample], array: str) -> list[int]:
    """Return how many tokens each image has in an array: its image tokens, its tower's tokens, or
    the text tokens before it.
    """
    if array_kind(array) in TEXT_KINDS:
        return [sample.image_start for sample in samples]
    if array in TOWER_KINDS:
        return [sample.n_vision_tokens for sample in samples]
    return [sample.n_tokens for sample in samples]


def token_offsets(samples: Sequence[Sample], array: str) -> list[int]:
    """Return the (n + 1) positions in an array where each image begins, and where the last ends."""
    return [0, *accumulate(token_counts(samples, array))]

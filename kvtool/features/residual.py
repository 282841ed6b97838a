"""The residual stream of a run's image tokens: as the run stores it, else computed from what it
holds.

Keys, values and what enters the decoder are enough to compute the stream of any few image tokens
(kvtool.models.hidden); a run that was extracted with the kind `hidden` has it on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kvtool.errors import UsageError
from kvtool.models.families import adds_features
from kvtool.store.blocks import BlockValues
from kvtool.store.encoding import STORED_DTYPE
from kvtool.store.manifest import RunConfig
from kvtool.store.stored_run import StoredRun
from kvtool.store.tokens import Indices, TokenChoice
from kvtool.types import HIDDEN, Kind, Sample

if TYPE_CHECKING:
    import torch

    from kvtool.models.base import LanguageModel

Array = np.ndarray[Any, Any]
NEEDED: tuple[Kind, ...] = ("key", "value", "projected")
"""Kinds of all layers from which the stream is computed, of most decoders."""
ATTENTIONS = ("sdpa", "eager")
"""Attention backends that take a mask for each token."""


@dataclass(frozen=True)
class ImageStream:
    """The residual stream of one image.

    Attributes:
        sample: The image.
        tokens: Indices among the image's tokens, (token,).
        states: (layer, token, hidden) in the run's precision, on the model's device.
    """

    sample: Sample
    tokens: Indices
    states: torch.Tensor


def check_streams(run: StoredRun, layers: Sequence[int]) -> None:
    """Raise UsageError where a run lacks what the stream after some layers follows from."""
    config = run.config
    depth = config.model.geometry.layers
    # A tower alone has no stream of a decoder.
    if not depth:
        raise UsageError(
            f"run {run.name}: hidden: expected a run of a language model, found one of "
            f"{config.model.name}, an encoder alone, which has no residual stream of a decoder"
        )
    if outside := [layer for layer in layers if not 0 <= layer < depth]:
        raise UsageError(
            f"run {run.name}: hidden: expected layers from 0 to {depth - 1}, found {outside[0]}"
        )
    needed = needed_kinds(config)
    # Neither stored nor computable: the reason says which extraction would help.
    if not _is_stored(run, layers) and not _is_computable(run):
        if adds_features(config.model.family):
            raise UsageError(
                f"run {run.name}: hidden: expected a run that stores it, since DeepStack adds more "
                f"of a picture to the stream of {config.model.name} than a run holds: extract anew "
                "with --kinds hidden"
            )
        stored = f"{', '.join(config.kinds)} of {len(config.layers)} of {depth} layers"
        raise UsageError(
            f"run {run.name}: hidden: expected {', '.join(needed)} of all {depth} layers, or "
            f"hidden, found {stored}: extract anew without --layers and with --kinds "
            f"{','.join(needed)}"
        )


def needed_kinds(config: RunConfig) -> tuple[Kind, ...]:
    """Return the kinds from which the stream is computed. A decoder with layers of linear attention
    runs the whole prompt again, from the projected tokens alone.
    """
    return ("projected",) if config.model.geometry.recurrent else NEEDED


def stream_layers(run: StoredRun) -> tuple[int, ...]:
    """Return the layers whose stream a run has: all where it can be computed, else those that are
    stored; all too of a run that lacks what is needed, see check_streams.
    """
    is_partial = HIDDEN in run.config.kinds and not _is_computable(run)
    return run.config.layers if is_partial else tuple(range(run.config.model.geometry.layers))


def image_streams(
    run: StoredRun,
    layers: Sequence[int],
    tokens: Mapping[str, Indices],
    model: Any = None,
) -> Iterator[ImageStream]:
    """Yield the stream of each image's tokens, in the order of `tokens`; the memory does not grow
    with the number of images.

    Args:
        run: the run, see check_streams.
        layers: the decoder's layers, in any order.
        tokens: indices of tokens by image id.
        model: the run's model (kvtool.engine.run_model); a run that stores these layers needs none.

    Raises UsageError for an image or a token that is not stored.
    """
    import torch

    from kvtool.models.device import find_dtype, from_numpy
    from kvtool.models.hidden import hidden_states

    is_stored = _is_stored(run, layers)
    device = torch.device("cpu") if model is None else model.checkpoint.device
    for image, indices in tokens.items():
        sample = run.image(image).sample
        if is_stored:
            # Stored streams are handed over as they are.
            bits = run.read(
                HIDDEN, list(layers), ids=[image], tokens=indices.tolist(), raw=True
            ).values
            states = from_numpy(bits, find_dtype(run.config.model.dtype)).to(device)
        else:
            arrays = run.read_image(image, needed_kinds(run.config), raw=True)
            # Else the layers run on from what the run holds, for these tokens alone.
            rows = TokenChoice(indices.tolist()).indices(sample, HIDDEN)
            states = hidden_states(model, [sample], [arrays], rows[None], layers, run.config.keys)[
                :, 0
            ]
        yield ImageStream(sample, indices, states)


def sample_cells(sample: Sample, count: int | Literal["all"], seed: int) -> Indices:
    """Choose cells of an image's base grid: indices (cell,) row by row, rising.

    The grid is cut into `count` stretches of equal length, and a cell is drawn in each, so that the
    whole picture is sampled. An image has its own draw, whatever other images are there; one of no
    more cells than `count` has all.
    """
    rows, cols = sample.base(HIDDEN).grid
    n_cells = rows * cols
    if count == "all" or count >= n_cells:
        return np.arange(n_cells)
    # Integer division: stretches differ by one cell at most.
    ends = np.arange(count + 1) * n_cells // count
    # Seeded by the image, too: its cells do not depend on what else is read.
    rng = np.random.default_rng([seed, sample.index])
    return rng.integers(ends[:-1], ends[1:])


def tokens_of_cells(sample: Sample, cells: Indices | slice) -> Indices:
    """Return the indices among an image's tokens of cells of its base grid."""
    tokens: Indices = np.array(sample.base(HIDDEN).token_indices(), np.int64)[cells]
    return tokens


def read_hidden(
    run: StoredRun,
    layer: int | Sequence[int],
    ids: Sequence[str] | None,
    raw: bool,
    choice: TokenChoice,
    model: str | None,
    device: str,
) -> BlockValues:
    """Return the stream of chosen tokens over images, see StoredRun.hidden."""
    layers = list(layer) if isinstance(layer, Iterable) else [layer]
    check_streams(run, layers)
    # Rows of all images one after the other, as offsets say.
    samples = run.samples if ids is None else [run.image(image).sample for image in ids]
    tokens = {sample.id: choice.indices(sample, HIDDEN) for sample in samples}
    offsets = np.cumsum([0, *(len(tokens[sample.id]) for sample in samples)], dtype=np.int64)
    shape = (len(layers), int(offsets[-1]), run.config.model.geometry.hidden)
    values = np.empty(shape, STORED_DTYPE[run.config.model.dtype] if raw else np.float32)
    # An image that is asked for twice is run once.
    starts: dict[str, list[int]] = {image: [] for image in tokens}
    for sample, start in zip(samples, offsets.tolist(), strict=False):
        starts[sample.id].append(start)
    loaded = load_for_streams(run, layers, model, device)
    for stream in image_streams(run, layers, tokens, loaded):
        states = _on_host(stream.states, raw)
        for start in starts[stream.sample.id]:
            values[:, start : start + len(stream.tokens)] = states
    # A single layer has no axis of its own, as in StoredRun.read.
    block = values if isinstance(layer, Iterable) else values[0]
    return BlockValues(block, tuple(samples), offsets)


def load_for_streams(
    run: StoredRun, layers: Sequence[int], model: str | None, device: str
) -> LanguageModel | None:
    """Load the model that computes the stream after some layers, as it was run in the extraction;
    None for a run that stores them. Raises the errors of load_run_model.
    """
    if _is_stored(run, layers):
        return None
    from kvtool.engine.run_model import load_run_model

    attention = run.config.model.attention
    # Other backends take no mask for each token, which partial prompts need.
    backend = attention if attention in ATTENTIONS else ATTENTIONS[0]
    return load_run_model(run, model, device, attention=backend)


def _on_host(states: torch.Tensor, raw: bool) -> Array:
    """Return states as an array, in the run's precision (bfloat16 as its bits) or in float32."""
    from kvtool.models.device import to_numpy

    return to_numpy(states.cpu() if raw else states.float().cpu())


def _is_stored(run: StoredRun, layers: Sequence[int]) -> bool:
    return HIDDEN in run.config.kinds and set(layers) <= set(run.config.layers)


def _is_computable(run: StoredRun) -> bool:
    if adds_features(run.config.model.family):
        return False
    geometry = run.config.model.geometry
    has_all_layers = run.config.cached_layers == geometry.cached_layers or geometry.recurrent
    return bool(has_all_layers) and set(needed_kinds(run.config)) <= set(run.config.kinds)

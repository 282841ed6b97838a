"""The residual stream at sinks: whether a few of its dimensions stand out, as massive activations
do (Sun et al. 2024), and which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kvtool.asking.attending import Attender
from kvtool.asking.inquiries import Array
from kvtool.errors import UsageError
from kvtool.features.residual import check_streams, image_streams
from kvtool.stats.resampling import ratio
from kvtool.types import Sample

REST_CELLS = 16
"""Cells of each picture that are no sinks of a key, drawn at random, beside the sinks."""


class PicturePeaks(NamedTuple):
    """What one picture adds to the sums.

    Attributes:
        peaks: The sum of peaks at sinks and at others, and their numbers, (key, 4).
        sizes: The sum of the sizes of all dimensions at sinks, (key, hidden) float32.
    """

    peaks: Array
    sizes: Array


@dataclass
class StreamPeaks:
    """Sums over pictures of how far the largest dimension of the stream stands out.

    A layer's attention reads the stream after the layer before; what enters the first layer is the
    picture's tokens themselves, of which nothing is said here.

    Attributes:
        attender: What has the model.
        seed: The random seed of the other cells.
        notes: Why there are none.
        peaks: The sum of peaks at sinks and at others, and their numbers, (key, 4).
        sizes: The sum of the sizes of all dimensions at sinks, (key, hidden).
    """

    attender: Attender
    seed: int
    notes: list[str] = field(default_factory=list)
    peaks: Array | None = None
    sizes: Array | None = None

    @classmethod
    def of(cls, attender: Attender, seed: int) -> StreamPeaks:
        """Return sums for a run, which stay empty with a note where it has no stream."""
        sums = cls(attender, seed)
        geometry = attender.run.config.model.geometry
        try:
            check_streams(attender.run, sums._layers)
        except UsageError as error:
            sums.notes.append(f"without the residual stream at sinks: {error}")
            return sums
        n_keys = len(attender.layers) * geometry.shape(attender.layers[0])[0]
        sums.peaks = np.zeros((n_keys, 4))
        sums.sizes = np.zeros((n_keys, geometry.hidden))
        return sums

    @property
    def _layers(self) -> list[int]:
        """The layers whose stream the attention of the layers above reads."""
        return [layer - 1 for layer in self.attender.layers if layer]

    def measured(self, sample: Sample, cells: Array, sinks: Array) -> PicturePeaks | None:
        """Measure a picture: the tokens of its cells (cell,), and the sinks of each key (key, sink)
        as indices of cells; None where there is no stream.
        """
        if self.peaks is None or self.sizes is None or not self._layers:
            return None
        # Sinks are set beside random tokens, some more in case these are sinks themselves.
        rng = np.random.default_rng([self.seed, sample.index])
        rest_cells = rng.permutation(len(cells))[: REST_CELLS + sinks.shape[1]]
        read = np.union1d(sinks, rest_cells)
        (stream,) = image_streams(
            self.attender.run, self._layers, {sample.id: cells[read]}, self.attender.model
        )
        states = np.abs(stream.states.float().cpu().numpy())
        kv_heads = len(self.peaks) // len(self.attender.layers)
        peaks, sizes = np.zeros_like(self.peaks), np.zeros(self.sizes.shape, states.dtype)
        for row, layer in enumerate(self._layers):
            # How far the largest dimension is above the common one, token by token.
            peak = ratio(states[row].max(axis=-1), np.median(states[row], axis=-1))
            # The keys of a layer are made of the stream after the layer before.
            first = self.attender.layers.index(layer + 1) * kv_heads
            for key in range(first, first + kv_heads):
                is_sink = np.isin(read, sinks[key])
                is_other = np.isin(read, rest_cells) & ~is_sink
                for column, selection in ((0, is_sink), (1, is_other)):
                    peaks[key, column] = np.nansum(peak[selection])
                    peaks[key, column + 2] = (~np.isnan(peak[selection])).sum()
                # Summed over sinks, a dimension that stands out at all of them shows.
                sizes[key] = states[row][is_sink].sum(axis=0)
        return PicturePeaks(peaks, sizes)

    def add(self, picture: PicturePeaks) -> None:
        """Take in a picture."""
        assert self.peaks is not None, "a picture that was measured has a stream"
        assert self.sizes is not None
        self.peaks += picture.peaks
        self.sizes += picture.sizes

    def columns(self) -> Mapping[str, Array]:
        """Return the mean peak at sinks and at others, and the largest dimension at sinks, (key,)
        each; NaN where it is not known.
        """
        geometry = self.attender.run.config.model.geometry
        n_keys = len(self.attender.layers) * geometry.shape(self.attender.layers[0])[0]
        if self.peaks is None or self.sizes is None:
            unknown = np.full(n_keys, np.nan)
            return {"peak": unknown, "peak_others": unknown, "massive_dimension": unknown}
        is_read = self.peaks[:, 2] > 0
        return {
            "peak": ratio(self.peaks[:, 0], self.peaks[:, 2]),
            "peak_others": ratio(self.peaks[:, 1], self.peaks[:, 3]),
            "massive_dimension": np.where(is_read, self.sizes.argmax(axis=1), np.nan),
        }

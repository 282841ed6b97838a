"""`kvtool attend --sinks`: which image tokens draw attention whatever the text, key by key, and
what they have to do with keys that do not depend on the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtool.asking.attending import Attender, Look
from kvtool.asking.caches import CACHE
from kvtool.asking.inquiries import Array, Inquiry
from kvtool.asking.records import numbered
from kvtool.errors import BusyError, KvtoolError
from kvtool.experiments.attend.measures import mass_of
from kvtool.experiments.attend.pictures import Numbers, PictureShares, ReadPicture
from kvtool.experiments.attend.relations import compared, correlations
from kvtool.experiments.attend.streams import PicturePeaks, StreamPeaks
from kvtool.features.sinks import COLUMN, PictureSinks, SinkSums
from kvtool.features.variances import kept_variances
from kvtool.result import MAX_REASONS, Result, Row, best_row, versions
from kvtool.stats.resampling import ratio
from kvtool.tasks.base import Table, table_rows

METRIC = "sink_share"
NORMS = ("key_norm", "value_norm")
TASK = "sinks"


@dataclass
class SinkStudy:
    """Sinks of a run's keys.

    Attributes:
        attender: What gives the maps.
        inquiries: The texts, each about a picture.
        config: All that the numbers depend on.
        seed: The random seed.
        skipped: Lines of what was left out before.
        notes: What the user should know of the result.
    """

    attender: Attender
    inquiries: Sequence[Inquiry]
    config: dict[str, Any]
    seed: int
    skipped: Sequence[str] = ()
    notes: Sequence[str] = ()
    pictures: list[str] = field(default_factory=list)
    _reads: Sequence[ReadPicture] = ()

    def look(self, shares: PictureShares) -> None:
        """Measure the pictures, with the others who do. Raises BusyError."""
        shares.progress(0, "", len({inquiry.image for inquiry in self.inquiries}))
        self._reads = shares.measured("sinks", self.inquiries, self._numbers)

    def result(self) -> Result:
        """Return the sinks of all keys, summed up over pictures. Raises KvtoolError where nothing
        could be asked.
        """
        sums = SinkSums(len(self.attender.layers) * self._kv_heads)
        peaks = StreamPeaks.of(self.attender, self.seed)
        skipped = list(self.skipped)
        self.pictures = []
        for read in self._reads:
            # A picture at a time, so that the memory does not grow with them.
            numbers = read()
            skipped += numbers.skipped
            for image, arrays in numbers.entries.items():
                sinks, picture_peaks = _parts(arrays)
                sums.add(sinks, self.attender.run.image(image).sample.base().grid)
                if picture_peaks is not None:
                    peaks.add(picture_peaks)
                self.pictures.append(image)
        if not self.pictures:
            lines = [*skipped, "nothing was asked"]
            raise KvtoolError(f"attend: expected pictures to look at, found none: {lines[0]}")
        rows = self._rows(sums, peaks)
        variances, notes = self._variances()
        rows = [row | variances.get((row["layer"], row["kv_head"]), _UNKNOWN) for row in rows]
        skipped = list(dict.fromkeys(skipped))
        outcome = {
            "correlations": correlations(rows),
            "agnostic": compared(rows, self.seed),
            "notes": [*self.notes, *peaks.notes, *notes],
        }
        return Result(
            command="attend",
            task=TASK,
            metric=METRIC,
            n=len(self.pictures),
            rows=rows,
            best=best_row(rows, METRIC),
            config=self.config | outcome,
            versions=versions(),
            n_skipped=len(skipped),
            skipped=skipped[:MAX_REASONS],
        )

    def _numbers(self, image: str, looks: Iterator[Look]) -> dict[str, Numbers]:
        """Measure a picture by the looks at it; nothing where there are none."""
        maps = self._maps(looks)
        if maps is None:
            return {}
        sample = self.attender.run.image(image).sample
        span = sample.base()
        cells = np.array(span.token_indices())
        vectors = self._vectors(image, cells)
        picture = PictureSinks.of(maps[:, cells], mass_of(maps), *vectors, span.grid)
        peaks = StreamPeaks.of(self.attender, self.seed).measured(sample, cells, picture.sinks)
        return {image: picture._asdict() | ({} if peaks is None else peaks._asdict())}

    @property
    def _kv_heads(self) -> int:
        """The number of keys of each layer, which all layers have in common."""
        return self.attender.run.config.model.geometry.shape(self.attender.layers[0])[0]

    def _maps(self, looks: Iterable[Look]) -> Array | None:
        """Return the attention that each key draws, the mean over texts, query tokens and the query
        heads that share it, (layer * kv_head, image_token); None where nothing looks.
        """
        n_keys = len(self.attender.layers) * self._kv_heads
        # One text's maps are in memory at a time, however many are asked about the image.
        total: Array | None = None
        n_texts = 0
        for look in looks:
            # Query heads of a group share one key: what it draws is their mean.
            grouped = look.mean.reshape(n_keys, -1, look.mean.shape[-1])
            maps = grouped.mean(axis=1, dtype=np.float64)
            total = maps if total is None else total + maps
            n_texts += 1
        if total is None:
            return None
        mean: Array = total / n_texts
        return mean

    def _vectors(self, image: str, cells: Array) -> tuple[Array, Array]:
        """Return the keys and values of an image's cells, (layer * kv_head, cell, dim) each."""
        run, layers, heads = self.attender.run, self.attender.layers, range(self._kv_heads)
        keys, values = (
            run.read(kind, layers, heads, ids=[image], tokens=cells.tolist()).values
            for kind in CACHE
        )
        # Layers and heads become one axis of keys.
        flat = (-1, *keys.shape[2:])
        return keys.reshape(flat), values.reshape(flat)

    def _rows(self, sums: SinkSums, peaks: StreamPeaks) -> list[Row]:
        """Return a row for each key."""
        # Pictures are the units; under several ids one picture is one cluster.
        units = np.stack(sums.units, axis=1)
        digests = {sample.id: sample.digest for sample in self.attender.run.samples}
        pictures = numbered([digests[image] or image for image in self.pictures])
        table = Table({}, units, sink_scores, clusters=pictures)
        rows = table_rows(list(self._blocks()), table, self.seed)
        overlap, overlap_chance = sums.overlap()
        assert sums.at_sinks is not None
        assert sums.at_others is not None
        columns = {
            "overlap": overlap,
            "overlap_chance": np.full(len(rows), overlap_chance),
            "border_chance": np.full(len(rows), sums.border_chance()),
            "value_dependence": sums.at_sinks.dependence(),
            "value_dependence_others": sums.at_others.dependence(),
            **peaks.columns(),
        }
        dimensions = columns.pop("massive_dimension")
        return [
            row
            | {name: number_or_none(values[index]) for name, values in columns.items()}
            | {"massive_dimension": None if np.isnan(dimension) else int(dimension)}
            for (index, row), dimension in zip(enumerate(rows), dimensions, strict=True)
        ]

    def _blocks(self) -> Iterator[Row]:
        for layer in self.attender.layers:
            for head in range(self._kv_heads):
                yield {"kind": "key", "layer": layer, "kv_head": head}

    def _variances(self) -> tuple[dict[tuple[int, int], Row], list[str]]:
        """Return the variance of each key and whether it is input-agnostic, and notes."""
        try:
            result = kept_variances(self.attender.run, "key", 0)
        except BusyError:
            raise
        except KvtoolError as error:
            return {}, [f"without variances of the keys: {error}"]
        fields = ("variance", "input_agnostic")
        by_key = {
            (row["layer"], row["kv_head"]): {name: row[name] for name in fields}
            for row in result.rows
        }
        return by_key, [f"variance: {note}" for note in result.config["notes"]]


def _parts(arrays: Numbers) -> tuple[PictureSinks, PicturePeaks | None]:
    """Return a picture's numbers as what they were before they were kept."""
    sinks = PictureSinks(*(arrays[name] for name in PictureSinks._fields))
    if not arrays.keys() >= set(PicturePeaks._fields):
        return sinks, None
    return sinks, PicturePeaks(*(arrays[name] for name in PicturePeaks._fields))


_UNKNOWN: Row = {"variance": None, "input_agnostic": None}


def sink_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of units (..., COLUMNS) over pictures into scores."""
    means = {
        name: ratio(sums[..., column], sums[..., COLUMN["pictures"]])
        for name, column in COLUMN.items()
    }
    # Norms at sinks, over those of the other tokens.
    norms = {f"{name}_ratio": ratio(means[name], means[f"{name}_others"]) for name in NORMS}
    return {name: means[name] for name in (METRIC, "mass", "border")} | norms


def number_or_none(value: float) -> float | None:
    """Return a number of a row; None where it is not defined."""
    return None if np.isnan(value) else float(value)

"""A study as it is asked for: what it reads, the key of its result, and the result."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.descriptions import Descriptions
from kvtool.datasets.identity import dataset_of
from kvtool.demo.weights import DEMO, demo_saes_path
from kvtool.digests import digest_texts
from kvtool.engine.run_model import load_run_model
from kvtool.errors import UsageError
from kvtool.experiments.sae.autoencoders import LayerSae, Shelf, Source, layer_saes
from kvtool.experiments.sae.curves import curves_of
from kvtool.experiments.sae.describing import DescribedBy, make_describing
from kvtool.experiments.sae.matches import Filters
from kvtool.experiments.sae.measure import measure
from kvtool.experiments.sae.rows import RowMaker, Scores
from kvtool.experiments.sae.splices import splice_losses
from kvtool.experiments.sae.streams import Streams, read_inputs, serves_untrained
from kvtool.experiments.sae.subject import Subject, Tokens, make_subject
from kvtool.experiments.sae.words import read_words
from kvtool.features.residual import check_streams, load_for_streams
from kvtool.layers import LayerChoice, resolve_layers
from kvtool.models.language import language_of
from kvtool.progress import Progress
from kvtool.result import Result, result_key, versions
from kvtool.store import Run, open_store
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.shares import Share, chunk_name

NONE = "none"
LINES = 10
"""So many reasons are listed."""
NOT_EVIDENCE = (
    "falling error and text-like sparsity are no evidence of alignment: they appear for random "
    "vectors too; transfer is, where it exceeds its controls"
)
BY_SAE = ("noise-residual", "pca", "random-sae")
"""Conditions that only an SAE can be read under."""


@dataclass(frozen=True)
class Settings:
    """What a study was asked for, as in kvtool.sae."""

    tokens: Tokens
    conditions: tuple[str, ...]
    filters: Filters
    outlier: float
    limit: int | None
    seed: int
    described_by: DescribedBy
    splice: bool


@dataclass(frozen=True)
class Study:
    """A study of a run.

    Attributes:
        run: The run.
        subject: Its images, with captions.
        layers: The decoder's layers that are read.
        entries: The SAEs of these layers; none for directions alone.
        settings: What was asked for; conditions are those that can be served.
        descriptions: Of features.
        notes: What a reader should know, a sentence each.
        unread: A line for each SAE that cannot be read.
        outside: A line for each SAE of other layers or places.
    """

    run: Run
    subject: Subject
    layers: tuple[int, ...]
    entries: tuple[LayerSae, ...]
    settings: Settings
    descriptions: Descriptions
    notes: tuple[str, ...]
    unread: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    def config(self) -> dict[str, Any]:
        """Return all that the numbers depend on."""
        subject = self.subject
        n_layers = self.run.config.model.geometry.layers
        return {
            "algorithm": ALGORITHMS["sae"],
            **describe_run(self.run),
            "scored_hash": digest_texts(sample.id for sample in subject.samples),
            "sae": [entry.facts for entry in self.entries] or NONE,
            "layers": list(self.layers),
            "layers_without_sae": [n for n in range(n_layers) if n not in self.layers],
            "tokens": self.settings.tokens,
            "conditions": list(self.settings.conditions),
            "max_presence": self.settings.filters.max_presence,
            "max_density": self.settings.filters.max_density,
            "outlier": self.settings.outlier,
            "splice": self.settings.splice,
            "limit": self.settings.limit,
            "seed": self.settings.seed,
            "captions_hash": digest_texts(text for texts in subject.captions for text in texts),
            "truth_hash": subject.dataset.truth_digest(),
            "concepts": list(subject.concepts),
            **self.settings.described_by.settings(self.descriptions),
        }

    def kept(
        self, model: str | None, device: str, fresh: bool, wait_s: float, progress: Progress
    ) -> Result:
        """Return the result, stored or measured and stored. Raises BusyError."""
        store = open_store(self.run.store)
        config = self.config()
        key = result_key(config)

        def measure_all() -> Result:
            """Measure everything and store it."""
            result = self.result(config, model, device, progress)
            store.keep(key, result.to_json())
            return result

        def stored() -> Result | None:
            """Return the stored result."""
            return None if fresh else store.kept(key, Result.from_json)

        name = chunk_name("sae", "", key)
        return self._named(Share(wait_s).result(self.run, name, stored, measure_all))

    def _named(self, result: Result) -> Result:
        """Name the SAEs that are not in a result: others may be asked for beside those of a stored
        one, whose numbers and key are the same."""
        notes = [*self.outside, *result.config["notes"]]
        return replace(
            result,
            config={**result.config, "notes": notes},
            n_skipped=result.n_skipped + len(self.unread),
            skipped=[*self.unread, *result.skipped][:LINES],
        )

    def result(
        self, config: dict[str, Any], model_path: str | None, device: str, progress: Progress
    ) -> Result:
        """Measure everything."""
        model: Any = load_for_streams(self.run, self.layers, model_path, device)
        model = model or load_run_model(self.run, model_path, device)
        inputs = read_inputs(self.subject, "untrained" in self.settings.conditions)
        streams = Streams(self.subject, model, language_of(model), self.layers, inputs)
        with tempfile.TemporaryDirectory(prefix="kvtool-sae-") as folder:
            measured = measure(
                streams,
                read_words(streams),
                self.entries,
                Shelf(model.checkpoint.device),
                self.settings.conditions,
                self.settings.outlier,
                Path(folder),
                progress,
            )
            describing = make_describing(
                self.settings.described_by,
                self.descriptions,
                streams.language,
                str(model.checkpoint.device),
                self.settings.seed,
            )
            rows = RowMaker(measured, self.settings.filters, describing)
            losses = splice_losses(measured, progress) if self.settings.splice else None
            scores = rows.scores(self.settings.conditions, losses)
        return self._result(scores, config, describing.finish())

    def _result(self, scores: Scores, config: dict[str, Any], lines: Sequence[str]) -> Result:
        skipped = self.subject.skipped
        metric = "fvu" if self.entries else "directions"
        images = [row for row in scores.rows if row["condition"] == "image"]
        result = Result(
            command="sae",
            task=None,
            metric=metric,
            n=len(self.subject),
            rows=scores.rows,
            per_layer=images,
            config={
                **config,
                **curves_of(scores),
                "notes": [*self.notes, *lines, *([NOT_EVIDENCE] if self.entries else [])],
            },
            versions=versions(),
            n_skipped=len(skipped),
            skipped=skipped[:LINES],
            items=scores.items,
            unit=metric,
            higher_is_better=not self.entries,
        )
        return replace(result, best=result.best_of(images))


def make_study(
    run: Run,
    sources: Sequence[Source] | Source,
    layers: LayerChoice | None,
    data: str | Path | None,
    settings: Settings,
) -> Study:
    """Return a study of a run. Raises UsageError for what it cannot be made of."""
    geometry = run.config.model.geometry
    numbers = resolve_layers(layers, geometry.layers) or tuple(range(geometry.layers))
    check_streams(run, numbers)
    subject = make_subject(
        run, dataset_of(run, data), settings.tokens, settings.limit, settings.seed
    )
    listed = _listed(sources)
    entries, outside, unread = (
        layer_saes(listed, geometry.hidden, numbers) if listed else ([], [], [])
    )
    read = tuple(sorted({entry.layer for entry in entries})) if listed else numbers
    settings = replace(settings, described_by=_with_shipped(settings.described_by, listed))
    descriptions = settings.described_by.read()
    conditions, notes = _served(subject, settings.conditions, bool(listed))
    if not subject.concepts:
        notes.append(
            f"{subject.dataset.name} has no masks of categories: transfer and directions are not "
            "defined"
        )
    return Study(
        run,
        subject,
        read,
        tuple(entries),
        replace(settings, conditions=conditions),
        descriptions,
        (*descriptions.skipped[:LINES], *notes),
        tuple(unread),
        tuple(outside),
    )


def _listed(sources: Sequence[Source] | Source) -> list[Source]:
    """Return SAEs as a list; none for the word "none"."""
    if isinstance(sources, str | PathLike | SparseAutoencoder):
        return _listed([sources])
    listed = list(sources)
    names = [item for item in listed if isinstance(item, str)]
    if names == [NONE] == listed:
        return []
    if not listed or NONE in names:
        raise UsageError("sae: expected files of SAEs, or none alone")
    return listed


def _with_shipped(by: DescribedBy, sources: Sequence[Source]) -> DescribedBy:
    """Return the descriptions that are shipped with the demo's SAEs, where these are read and no
    others are named."""
    shipped = demo_saes_path() / "descriptions.json"
    if by.path is None and DEMO in sources and shipped.is_file():
        return replace(by, path=shipped)
    return by


def _served(
    subject: Subject, conditions: Sequence[str], has_sae: bool
) -> tuple[tuple[str, ...], list[str]]:
    """Return the conditions that can be read, and why others cannot."""
    left_out: dict[str, str | None] = {}
    if not has_sae:
        left_out |= dict.fromkeys(BY_SAE)
    if "vision" not in subject.run.config.kinds:
        left_out["untrained"] = "the run holds no vision features: extract with --kinds vision"
    elif not all(map(serves_untrained, subject.samples)):
        left_out["untrained"] = "the tower's patches do not divide into the decoder's tokens"
    if (subject.partners < 0).all():
        left_out["other-image"] = "no two images have equal grids"
    notes = [
        f"{name} is left out: {reason}"
        for name, reason in left_out.items()
        if name in conditions and reason
    ]
    return tuple(name for name in conditions if name not in left_out), notes

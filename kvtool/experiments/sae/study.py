"""A study as it is asked for: what it reads, the key of its result, and the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.autoencoders.descriptions import Descriptions
from kvtool.datasets.identity import dataset_of
from kvtool.demo.weights import DEMO, demo_saes_path
from kvtool.digests import digest_texts
from kvtool.experiments.sae.settings import LINES, DescribedBy, StudySettings
from kvtool.experiments.sae.sources import NONE, SaeSource, find_sources, listed_sources
from kvtool.experiments.sae.subject import CaptionedImages, make_subject, serves_untrained
from kvtool.features.residual import check_streams
from kvtool.layers import LayerChoice, resolve_layers
from kvtool.progress import Progress
from kvtool.result import Result, result_key
from kvtool.store import Run, open_store
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.shares import Share, chunk_name

if TYPE_CHECKING:
    from kvtool.experiments.sae.sources import Source

BY_SAE = ("noise-residual", "pca", "random-sae")
"""Conditions that only an SAE can be read under."""


@dataclass(frozen=True)
class SaeStudy:
    """A study of a run.

    Attributes:
        run: The run.
        subject: Its images, with captions.
        layers: The decoder's layers that were asked for.
        sources: The SAEs, of whatever layers they are; none for directions alone.
        settings: What was asked for; conditions are those that can be served.
        descriptions: Of features.
        notes: What a reader should know, a sentence each.
    """

    run: Run
    subject: CaptionedImages
    layers: tuple[int, ...]
    sources: tuple[SaeSource, ...]
    settings: StudySettings
    descriptions: Descriptions
    notes: tuple[str, ...]

    def config(self) -> dict[str, Any]:
        """Return all that the numbers depend on; it names no place and reads no weights."""
        subject = self.subject
        return {
            "algorithm": ALGORITHMS["sae"],
            **describe_run(self.run),
            "scored_hash": digest_texts(sample.id for sample in subject.samples),
            "sae": [source.digest for source in self.sources] or NONE,
            "layers": list(self.layers),
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
        return Share(wait_s).result(self.run, name, stored, measure_all)

    def result(
        self, config: dict[str, Any], model_path: str | None, device: str, progress: Progress
    ) -> Result:
        """Measure everything. Raises UsageError where no SAE is of these layers."""
        from kvtool.experiments.sae.outcome import measure_study

        return measure_study(self, config, model_path, device, progress)


def make_study(
    run: Run,
    sources: Iterable[Source] | Source,
    layers: LayerChoice | None,
    data: str | Path | None,
    settings: StudySettings,
) -> SaeStudy:
    """Return a study of a run. Raises UsageError for what it cannot be made of."""
    geometry = run.config.model.geometry
    numbers = resolve_layers(layers, geometry.layers) or tuple(range(geometry.layers))
    # What cannot be studied is refused before the captions and SAEs are read.
    check_streams(run, numbers)
    subject = make_subject(
        run, dataset_of(run, data), settings.tokens, settings.limit, settings.seed
    )
    listed = listed_sources(sources)
    settings = replace(settings, described_by=_with_shipped(settings.described_by, listed))
    descriptions = settings.described_by.read()
    conditions, notes = _served(subject, settings.conditions, bool(listed))
    if not subject.concepts:
        notes.append(
            f"{subject.dataset.name} has no masks of categories: transfer and directions are not "
            "defined"
        )
    return SaeStudy(
        run,
        subject,
        numbers,
        tuple(find_sources(listed, numbers)),
        replace(settings, conditions=conditions),
        descriptions,
        (*map(settings.described_by.labeled, descriptions.skipped[:LINES]), *notes),
    )


def _with_shipped(by: DescribedBy, sources: Sequence[Source]) -> DescribedBy:
    """Return the descriptions that are shipped with the demo's SAEs, where these are read and no
    others are named."""
    shipped = demo_saes_path() / "descriptions.json"
    if by.path is None and DEMO in sources and shipped.is_file():
        return replace(by, path=shipped)
    return by


def _served(
    subject: CaptionedImages, conditions: Sequence[str], has_sae: bool
) -> tuple[tuple[str, ...], list[str]]:
    """Return the conditions that can be read, and why others cannot."""
    # A reason of None leaves a condition out without a note: nobody asked for more.
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

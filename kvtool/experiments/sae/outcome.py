"""What a study measures, as a result: here SAEs and the run's model are read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.engine.run_model import load_run_model
from kvtool.experiments.sae.autoencoders import LayerSae, Shelf, layer_saes
from kvtool.experiments.sae.curves import curves_of
from kvtool.experiments.sae.describing import make_describing
from kvtool.experiments.sae.measure import measure
from kvtool.experiments.sae.rows import RowMaker, Scores
from kvtool.experiments.sae.settings import LINES
from kvtool.experiments.sae.sources import NONE
from kvtool.experiments.sae.splices import splice_losses
from kvtool.experiments.sae.streams import DecoderStreams, read_inputs
from kvtool.experiments.sae.words import read_words
from kvtool.features.residual import load_for_streams
from kvtool.models.language import language_of
from kvtool.progress import Progress
from kvtool.result import Result, versions

if TYPE_CHECKING:
    from kvtool.experiments.sae.study import SaeStudy

NOT_EVIDENCE = (
    "falling error and text-like sparsity are no evidence of alignment: they appear for random "
    "vectors too; transfer is, where it exceeds its controls"
)


def measure_study(
    study: SaeStudy,
    config: dict[str, Any],
    model_path: str | None,
    device: str,
    progress: Progress,
) -> Result:
    """Measure everything that a study was asked for.

    Args:
        study: The study.
        config: What its numbers depend on.
        model_path: The position of the run's model, if its name does not say it.
        device: The device of the model and the SAEs.
        progress: Called with the images that are done.

    Raises UsageError where no SAE is of the study's layers, the error of the first where none can
    be read, ModelError where the run's model is not there.
    """
    geometry = study.run.config.model.geometry
    entries, outside, unread = (
        layer_saes(study.sources, geometry.hidden, study.layers) if study.sources else ([], [], [])
    )
    layers = tuple(sorted({entry.layer for entry in entries})) or study.layers
    # Without an SAE the layers are those asked for, with one each those that have one.
    scores, lines = _scores(study, entries, layers, model_path, device, progress)
    facts = {
        "sae": [entry.facts for entry in entries] or NONE,
        "layers": list(layers),
        "layers_without_sae": [n for n in range(geometry.layers) if n not in layers],
        **study.settings.described_by.names(),
        **curves_of(scores),
        "notes": [*outside, *study.notes, *lines, *([NOT_EVIDENCE] if entries else [])],
    }
    return _result(study, scores, config | facts, unread)


def _scores(
    study: SaeStudy,
    entries: Sequence[LayerSae],
    layers: tuple[int, ...],
    model_path: str | None,
    device: str,
    progress: Progress,
) -> tuple[Scores, list[str]]:
    """Return the rows of a study, and what the comparison of descriptions has to say."""
    settings = study.settings
    model: Any = load_for_streams(study.run, layers, model_path, device)
    model = model or load_run_model(study.run, model_path, device)
    # What the replaced inputs are made of is read once, from images all over the run.
    inputs = read_inputs(study.subject, "untrained" in settings.conditions)
    streams = DecoderStreams(study.subject, model, language_of(model), layers, inputs)
    with tempfile.TemporaryDirectory(prefix="kvtool-sae-") as folder:
        measured = measure(
            streams,
            read_words(streams),
            entries,
            Shelf(model.checkpoint.device),
            settings.conditions,
            settings.outlier,
            Path(folder),
            progress,
        )
        describing = make_describing(
            settings.described_by,
            study.descriptions,
            streams.language,
            str(model.checkpoint.device),
            settings.seed,
        )
        # Rows come after the pass: they need the sums of all images.
        rows = RowMaker(measured, settings.filters, describing)
        losses = splice_losses(measured, progress) if settings.splice else None
        scores = rows.scores(settings.conditions, losses)
    return scores, [settings.described_by.labeled(line) for line in describing.finish()]


def _result(
    study: SaeStudy, scores: Scores, config: dict[str, Any], unread: Sequence[str]
) -> Result:
    skipped = study.subject.skipped
    has_sae = config["sae"] != NONE
    metric = "fvu" if has_sae else "directions"
    images = [row for row in scores.rows if row["condition"] == "image"]
    result = Result(
        command="sae",
        task=None,
        metric=metric,
        n=len(study.subject),
        rows=scores.rows,
        per_layer=images,
        config=config,
        versions=versions(),
        n_skipped=len(unread) + len(skipped),
        skipped=[*unread, *skipped][:LINES],
        items=scores.items,
        unit=metric,
        higher_is_better=not has_sae,
    )
    return replace(result, best=result.best_of(images))

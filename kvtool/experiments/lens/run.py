"""`kvtool lens`: what a decoder's final norm and head read at image tokens, after each layer.

See docs/sae.md, "Lens and word directions". No sparse autoencoder is needed, and nothing is chosen
on pictures: words are words of the vocabulary, directions are made of sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kvtool.bounds import checked
from kvtool.datasets.identity import dataset_of
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.lens.measures import Measuring
from kvtool.experiments.lens.patches import label_patches
from kvtool.experiments.lens.sources import Sentences, concepts_of, sentences_of
from kvtool.experiments.lens.words import patch_words
from kvtool.features.residual import check_streams, load_for_streams
from kvtool.layers import LayerChoice, resolve_layers
from kvtool.outputs import check_output
from kvtool.progress import Progress, called
from kvtool.result import Result, Row, best_row, result_key, versions
from kvtool.store import Run, open_store
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.select import Target, select_run
from kvtool.store.shares import Share, chunk_name
from kvtool.tasks.scoring import MAX_REASONS, keep_result
from kvtool.tasks.spread import spread

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel
    from kvtool.models.language import Language

TOKENS = 64
METRIC = "auroc"
EXAMPLES = 2
"""Images whose words a result keeps for the page."""
LAYERS_DRAWN = 4
"""Layers of a picture, unless some are chosen."""


@checked
def lens(
    target: Target,
    *,
    image: str | None = None,
    out: str | Path | None = None,
    layers: LayerChoice | None = None,
    tokens: int | Literal["all"] = TOKENS,
    text: str | Path | None = None,
    limit: int | None = None,
    model: str | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
) -> Result:
    """Measure whether words find the patches that they name in the residual stream of each layer.

    Rows of measure "lens": the probability that the final norm and the head give the first piece of
    a category's word, and its rank in the vocabulary. Rows of measure "directions": the stream
    along the word's direction, which is its mean state in sentences less that of the other words.
    `auroc` says how well either tells patches that show the category from those that do not, the
    mean over categories with an interval over images; 0.5 is chance. `permuted` is what the words
    of other categories get, `text` what the measure gets on the words in sentences.

    With `image`, the likeliest words at each of its patches instead, a row a patch and layer, and
    as a picture in `out`; the data set needs no annotations then.

    Streams are computed from what the run holds, or read where it holds `hidden`. The measure is
    kept in the store and returned again when the same is asked for, unless `fresh`. Raises
    UsageError for a run without what is needed and a data set without concepts, KvtoolError where
    no patch shows one, ModelError where the run's model is not there, BusyError where another
    process measures the same.

    Args:
        target: the run, or the store that holds it.
        image: the id of an image.
        out: the file of its picture, whose name ends in .png; an existing one is replaced.
        layers: the decoder's layers, by default all; of a picture four from all over.
        tokens: patches of an image that are measured, from all over it; "all" for the base grid.
        text: a file of sentences, one a line, that directions are made of, by default the captions
            of the data set.
        limit: the number of images, by default all.
        model: the place of the run's model, if its name does not say it.
        data: the place of the run's data set, if it moved.
        device: the device of the model: auto, cpu, cuda or cuda:N.
        seed: the random seed of patches, intervals and permutations.
        fresh: whether everything is measured again.
        wait_s: how long to wait for another process that measures the same.
        progress: called with 1 and a note for each image, and once with their number; True shows a
            bar.
    """
    run = select_run(target)
    reading = Reader(run, _layers(run, layers, image is not None), model, device)
    if image is not None:
        if text is not None or limit is not None:
            raise UsageError("lens: --text and --limit are of the measure: leave --image out")
        return _read_image(reading, image, out, data)
    if out is not None:
        raise UsageError("lens: -o is the file of a picture: give its image with --image")
    if tokens != "all" and tokens < 1:
        raise UsageError(f"lens: tokens: expected all or a number of 1 or more, found {tokens}")
    dataset = dataset_of(run, data)
    concepts_of(dataset)
    sentences = sentences_of(dataset, text)
    ids = run.ids[:limit]
    config = {
        "command": "lens",
        "algorithm": ALGORITHMS["lens"],
        **describe_run(run, ids),
        "truth_hash": dataset.truth_digest(),
        "layers": list(reading.layers),
        "tokens": tokens,
        "limit": limit,
        "text": sentences.source,
        "sentences": len(sentences.texts),
        "sentences_hash": sentences.digest,
        "seed": seed,
    }
    key = result_key(config)
    store = open_store(run.store)

    def make() -> Result:
        """Measure all layers, and keep what came of it."""
        labeled = label_patches(run, concepts_of(dataset), ids, tokens, seed)
        result = _measure(reading, labeled, sentences, config, called(progress))
        return keep_result(store, key, result)

    def stored() -> Result | None:
        """Return what is kept, unless all is to be measured anew."""
        return None if fresh else store.kept(key, Result.from_json)

    return Share(wait_s).result(run, chunk_name("lens", key), stored, make)

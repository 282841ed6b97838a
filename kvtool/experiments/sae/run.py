"""`kvtool sae`: the decoder's residual stream at image tokens, read by sparse autoencoders that
were trained on text.

See docs/sae.md, "Measures and controls". Falling error and text-like sparsity are no evidence that
image tokens are aligned with language: a decoder does that to any vectors. Transfer is: features
chosen on words alone find the patches that show what the words name.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kvtool.bounds import checked
from kvtool.errors import UsageError
from kvtool.experiments.sae.conditions import ALWAYS, CONDITIONS, DEFAULT
from kvtool.layers import LayerChoice
from kvtool.progress import Progress, called
from kvtool.result import Result
from kvtool.store.select import Target, select_store

if TYPE_CHECKING:
    from kvtool.autoencoders.autoencoder import SparseAutoencoder

    Source = str | PathLike[str] | SparseAutoencoder

TOKENS = 64


@checked
def sae(
    target: Target,
    sae: Sequence[Source] | Source,
    *,
    tokens: int | Literal["all"] = TOKENS,
    layers: LayerChoice | None = None,
    conditions: Sequence[str] = DEFAULT,
    descriptions: str | Path | None = None,
    match_by: Literal["lexical", "embedding", "judge"] = "lexical",
    embedder: str | None = None,
    judge: str | None = None,
    judge_jsonl: str | Path | None = None,
    splice: bool = False,
    max_presence: float = 0.05,
    max_density: float = 0.005,
    outlier: float = 10.0,
    limit: int | None = None,
    run: str | None = None,
    model: str | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
) -> Result:
    """Measure how the residual stream at image tokens reads in the features of text.

    Falling error and text-like sparsity are no evidence that images are aligned with language: a
    decoder brings any vectors there. Transfer is, and its controls show what chance gives.

    The result is kept in the store and returned again, without loading a model or reading weights,
    for SAEs of the same bytes and settings, wherever they lie; SAEs that cannot be read, and those
    of another width, are left out, named and counted in it.

    Raises UsageError where the data set has no captions, where the run lacks keys, values or what
    enters the decoder, and where all SAEs are of another width or none is of a layer of the run;
    ModelError where no file is an SAE, and where the run's model, or one that compares
    descriptions, is not there; BusyError where another process measures the same.

    Args:
        target: the store, or the run.
        sae: SAE files, folders or templates such as "saes/layer_{layer}", or loaded SAEs; "none"
            for directions of words alone, which need none.
        tokens: how many image tokens of each image are read, from all over its base grid; "all".
        layers: early, middle, late, last:N or numbers; by default all that have an SAE.
        conditions: names of kvtool.experiments.sae.conditions.CONDITIONS; text and image are always
            among them.
        descriptions: a file or folder of descriptions of the features, which are compared with the
            captions of the images where they are strongest; see kvtool.autoencoders.descriptions.
        match_by: by what a description fits: "lexical", a telling word in common; "embedding", a
            cosine that 5 % of other images' captions reach; "judge", a language model's yes.
        embedder: the model that embeds texts; by default the run's language model.
        judge: the language model that judges.
        judge_jsonl: in its position a file of questions, which someone else answers.
        splice: measure also what the model loses of captions where image tokens are replaced by
            their reconstructions: a pass over each image for each layer and SAE.
        max_presence: features that fire in a larger share of images, or of captions, are too dense
            for the match of images with their captions.
        max_density: so are those that fire on a larger share of the captions' tokens.
        outlier: tokens longer than this many times the layer's median token of text are dropped.
        limit: the number of images, by default all that have captions.
        run: the name of the run, where a store holds several.
        model: the position of the run's model, if its name does not say it.
        data: the position of the run's data set, if it moved.
        device: the device of the model and the SAEs.
        seed: the random seed of tokens, controls and intervals.
        fresh: whether everything is measured again.
        wait_s: how long to wait for another process that measures the same.
        progress: called with the images that are done, and once with their number; True shows a
            bar.
    """
    from kvtool.experiments.sae.settings import DescribedBy, Filters, StudySettings
    from kvtool.experiments.sae.study import make_study

    store, run_name = select_store(target, run)
    filters = Filters(max_presence, max_density)
    described_by = DescribedBy(descriptions, match_by, embedder, judge, judge_jsonl)
    names = _conditions(conditions)
    settings = StudySettings(tokens, names, filters, outlier, limit, seed, described_by, splice)
    study = make_study(store.run(run_name), sae, layers, data, settings)
    return study.kept(model, device, fresh, wait_s, called(progress))


def _conditions(names: Sequence[str]) -> tuple[str, ...]:
    """Return the conditions in their order, those that all are compared with among them.

    Raises UsageError for an unknown one.
    """
    if unknown := [name for name in names if name not in CONDITIONS]:
        raise UsageError(
            f"sae: conditions: expected some of {', '.join(CONDITIONS)}; found {unknown[0]!r}"
        )
    return tuple(name for name in CONDITIONS if name in (*names, *ALWAYS))

"""`kvtool.sae_check`: whether SAEs fit a language model, on the model's states over text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import isnan
from os import PathLike, fspath
from typing import Any

import torch

from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.check import check_sae
from kvtool.autoencoders.documents import Documents, contexts, listed_documents, open_documents
from kvtool.autoencoders.loading import SaeFile, find_saes
from kvtool.autoencoders.streams import vector_lengths
from kvtool.bounds import checked
from kvtool.demo.captions import scene_captions
from kvtool.display import Displayed, Facts
from kvtool.errors import ModelError, UsageError
from kvtool.models.device import chosen_name
from kvtool.models.language import Language, load_language
from kvtool.progress import Progress, called
from kvtool.types import Precision

EMBEDDING = -1
"""Stands for the layer whose output is the embedding."""
_WHAT = "sae check"
_CAPTIONS = 600
_CAPTION_SEED = 4
_BLOCK = 64
"""Contexts that are run before their vectors are sorted by layer."""


@dataclass(frozen=True, repr=False)
class CheckedSae(Displayed):
    """An SAE, what its files say, and what it does on words.

    Attributes:
        path: The file with its weights, or the path that was given where nothing could be read.
        format: The library that wrote it.
        layer: The decoder layer that its files name.
        hook: The place in the layer that its files name.
        d: The width of the vectors that it reads.
        m: The number of features.
        published_l0: The mean number of active features of a token that its makers give.
        l0: The same on this text.
        fvu: The share of the variance of the words that it misses.
        fits: Whether it fits where and as its files say.
        verdict: In words, with the reading that fits where the published one does not.
    """

    path: str
    format: str | None
    layer: int | None
    hook: str | None
    d: int | None
    m: int | None
    published_l0: float | None
    l0: float | None
    fvu: float | None
    fits: bool
    verdict: str

    def row(self) -> dict[str, Any]:
        """Return the values by name, as the command prints them."""
        return asdict(self)

    def _title(self) -> str:
        return f"Check of {self.path}"

    def _facts(self) -> Facts:
        names = ("path", "fits", "published_l0")
        return {name: value for name, value in self.row().items() if name not in names}


@checked
def sae_check(
    sae: Sequence[str | PathLike[str]],
    *,
    model: str,
    text: Sequence[str | PathLike[str]] = (),
    dataset: Any = None,
    max_tokens: int = 4096,
    context: int = 128,
    outlier: float = 10.0,
    dtype: Precision = "bfloat16",
    device: str = "auto",
    progress: Progress | bool | None = None,
) -> tuple[CheckedSae, ...]:
    """Check SAEs on a language model's own states over text.

    An SAE fits where it misses less than 0.9 of the variance of words, with a number of active
    features within a factor 3 of the published one. For one that does not, other readings are
    tried: another layer, with or without the decoder's bias subtracted, scaled vectors, rows and
    columns swapped; one that fits is named. An SAE that cannot be read has a row that says so.

    Args:
        sae: Files, folders, or templates with {layer}; or "demo".
        model: A language model: hub id, folder, or any model of load_model, whose decoder is taken.
        text: Files in UTF-8, a document a line. By default captions of drawn scenes.
        dataset: In place of text the captions of a data set: NAME[:PATH][@SPLIT], or an object.
        max_tokens: Tokens that are run at most.
        context: Tokens that are run together at most; longer documents are cut.
        outlier: Tokens whose vector is so many times as long as the layer's median are left out.
        dtype: The precision in which the model runs.
        device: Where to compute: auto, cpu, cuda or cuda:N.
        progress: Called with the SAEs that were checked; True shows a bar.

    Returns one CheckedSae a file, in the order of the paths, then of the layers.

    Raises UsageError for text that cannot be used, ModelError for a model that cannot be.
    """
    advance = called(progress)
    if not sae:
        raise UsageError(f"{_WHAT}: expected --sae PATH, found none; name a file or a folder")
    # Without text the captions of drawn scenes, which need no file.
    has_text = bool(text) or dataset is not None
    documents = open_documents(text, dataset, what=_WHAT) if has_text else drawn_captions()
    files = [item for path in sae for item in _files(path)]
    language = load_language(model, device=chosen_name(device), dtype=dtype)
    advance(0, "text", len(files))
    streams = word_streams(language, documents, max_tokens, context, outlier)
    # What could not be read keeps its place among the rows.
    rows = []
    for item in files:
        rows.append(item if isinstance(item, CheckedSae) else _checked(item, language, streams))
        advance(1, rows[-1].path)
    return tuple(rows)


def drawn_captions() -> Documents:
    """Return captions of drawn scenes, which every model reads."""
    return listed_documents(list(scene_captions(_CAPTIONS, _CAPTION_SEED)), "captions of scenes")


def word_streams(
    language: Language, documents: Documents, max_tokens: int, context: int, outlier: float
) -> Mapping[int, torch.Tensor]:
    """Run texts and return the vectors of words (token, d) after each layer, and at the embedding.

    Raises UsageError where there is no word, ModelError for vectors that are not finite.
    """
    layers = range(language.n_layers)
    blocks: dict[int, list[torch.Tensor]] = {layer: [] for layer in (EMBEDDING, *layers)}
    n_tokens = 0
    texts = contexts(language, documents, context)
    while n_tokens < max_tokens and (block := list(islice(texts, _BLOCK))):
        for item in language.token_states(block, layers):
            # Called for its check that all are finite.
            vector_lengths(item.states, layers, language.name)
            ids = torch.tensor(item.ids, device=language.device)
            blocks[EMBEDDING].append(language.embed(ids).detach())
            for layer, states in zip(layers, item.states, strict=True):
                blocks[layer].append(states)
            n_tokens += len(ids)
    if not n_tokens:
        raise UsageError(f"{_WHAT}: expected words, found none in {documents.name}; give more text")
    vectors = {layer: torch.cat(b)[:max_tokens] for layer, b in blocks.items()}
    # The same words for all layers: one that is far off in any of them is left out.
    is_usual = torch.stack([_is_usual(states, outlier) for states in vectors.values()]).all(dim=0)
    return {layer: states[is_usual].cpu() for layer, states in vectors.items()}


def _is_usual(vectors: torch.Tensor, outlier: float) -> torch.Tensor:
    """Return which vectors (token, d) are not far longer than the median's length, (token,)."""
    norms = vectors.float().norm(dim=1)
    is_usual: torch.Tensor = norms <= outlier * norms.median()
    return is_usual


def _files(path: str | PathLike[str]) -> list[SaeFile | CheckedSae]:
    """Return the SAEs of a path; a row that says why where there is none to be read."""
    try:
        return [*find_saes([path])]
    except ModelError as error:
        return [_unreadable(fspath(path), error)]


def _unreadable(path: str, error: ModelError | UsageError) -> CheckedSae:
    nothing = dict.fromkeys(
        ("format", "layer", "hook", "d", "m", "published_l0", "l0", "fvu"), None
    )
    # The path stands beside the verdict.
    reason = str(error).removeprefix(f"{path}: ")
    return CheckedSae(path=path, fits=False, verdict=f"cannot be read: {reason}", **nothing)


def _checked(file: SaeFile, language: Language, streams: Mapping[int, torch.Tensor]) -> CheckedSae:
    """Check the SAE of a file."""
    try:
        autoencoder = _loaded(file)
    except (ModelError, UsageError) as error:
        return _unreadable(str(file.path), error)
    # The row of an SAE of another width, which no stream can be given to.
    row = CheckedSae(
        path=str(file.path),
        format=autoencoder.format,
        layer=autoencoder.layer,
        hook=autoencoder.hook,
        d=autoencoder.d,
        m=autoencoder.m,
        published_l0=autoencoder.origin.published_l0,
        l0=None,
        fvu=None,
        fits=False,
        verdict=f"does not fit: reads vectors of width {autoencoder.d}, and those of "
        f"{language.name} have {language.hidden}",
    )
    if autoencoder.d != language.hidden:
        return row
    check = check_sae(autoencoder, streams)
    # Where there was no published reading, both are NaN, and are not told.
    fvu, l0 = check.published.fvu, check.published.l0
    is_read = not isnan(l0)
    return replace(
        row,
        fvu=fvu if is_read else None,
        l0=l0 if is_read else None,
        fits=check.fits,
        verdict=check.verdict,
    )


def _loaded(file: SaeFile) -> SparseAutoencoder:
    """Read an SAE; of square matrices, which do not tell their axes, the check tries both."""
    try:
        return file.load()
    except UsageError:
        return replace(file, transpose=False).load()

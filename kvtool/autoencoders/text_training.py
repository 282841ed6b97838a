"""`kvtool.sae_train`: SAEs of a language model's layers, trained on the model's own text.

Two steps, each of which goes on where it was killed: the texts are run once and the streams of all
layers written to disk; then one SAE after the other is trained on its layer's file. A layer's SAE
is in its folder whole or not at all.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from kvtool import schema
from kvtool.autoencoders.autoencoder import Origin
from kvtool.autoencoders.check import SaeFit, measure_fit
from kvtool.autoencoders.documents import Documents, open_documents
from kvtool.autoencoders.saving import save_sae
from kvtool.autoencoders.streams import StreamFiles, collect
from kvtool.autoencoders.tally import StreamSettings
from kvtool.autoencoders.tensors import number_in, read_json
from kvtool.autoencoders.training import SaeRecipe, train_sae
from kvtool.bounds import checked
from kvtool.digests import digest_texts
from kvtool.display import Displayed, Facts
from kvtool.errors import CorruptError, UsageError
from kvtool.layers import LayerChoice, resolve_layers
from kvtool.models.device import chosen_device, chosen_name
from kvtool.models.language import Language, load_language
from kvtool.outputs import check_folder, output_folder
from kvtool.progress import Progress, called
from kvtool.store.locks import claim
from kvtool.types import Precision

FORMAT = "saelens"
_WHAT = "sae train"
_WORK = ".training"
_VERSION = 1
"""Of what is trained: it is part of what an unfinished or finished training is known by."""


@dataclass(frozen=True, repr=False)
class TrainedSae(Displayed):
    """An SAE that was trained, and how it does on text that was held out.

    Attributes:
        layer: The decoder layer whose output it reads, 0-based.
        path: Its folder.
        m: The number of features.
        k: The mean number of active features of a token in training.
        n_tokens: Tokens for training.
        n_held_out: Tokens held out; fvu, l0 and alive are of these.
        fvu: The share of the variance that it misses.
        l0: The mean number of active features of a token.
        alive: The share of features that fire at least once.
        seconds: How long the layer's training took in the call that ended it, without the running
            of the text.
    """

    layer: int
    path: str
    m: int
    k: int
    n_tokens: int
    n_held_out: int
    fvu: float
    l0: float
    alive: float
    seconds: float

    def row(self) -> dict[str, Any]:
        """Return the values by name, as the command prints them."""
        return asdict(self)

    def _title(self) -> str:
        return f"SAE of layer {self.layer}, {self.m} features"

    def _facts(self) -> Facts:
        return {name: value for name, value in self.row().items() if name not in ("layer", "m")}


@checked
def sae_train(
    out: str | PathLike[str],
    *,
    model: str,
    text: Sequence[str | PathLike[str]] = (),
    dataset: Any = None,
    layers: LayerChoice | None = None,
    width: int | str = "8x",
    k: int = 32,
    steps: int = 1500,
    batch_size: int = 1024,
    max_tokens: int = 1_000_000,
    context: int = 128,
    outlier: float = 10.0,
    seed: int = 0,
    dtype: Precision = "bfloat16",
    device: str = "auto",
    progress: Progress | bool | None = None,
) -> tuple[TrainedSae, ...]:
    """Train a BatchTopK SAE of each layer's output, on the states of a model over text.

    The same call goes on where it was interrupted; layers whose SAE is in the folder are not
    trained again. Each is written as SAELens writes a JumpReLU SAE, as OUT/layer_L.

    Args:
        out: The folder; OUT/.training holds the states until all layers are done.
        model: A language model: hub id, folder, or any model of load_model, whose decoder is taken.
        text: Files in UTF-8, a document a line.
        dataset: In place of text the captions of a data set: NAME[:PATH][@SPLIT], or an object.
        layers: Of the decoder; None trains all.
        width: The number of features, or "8x" for eight times the width of the stream.
        k: The mean number of active features of a token.
        steps: Batches of a layer's training.
        batch_size: Tokens of a batch.
        max_tokens: Tokens for training at most; a tenth of the text is held out besides.
        context: Tokens that are run together at most; longer documents are cut.
        outlier: Tokens whose vector is so many times as long as the layer's median are left out.
        seed: The random seed of weights and batches.
        dtype: The precision in which the model runs and its states are stored.
        device: Where to compute: auto, cpu, cuda or cuda:N.
        progress: Called with the tokens that were run or trained on; True shows a bar.

    Returns one TrainedSae a layer, in the order of the layers.

    Raises UsageError for options, layers and text that cannot be used, ModelError for a model that
    gives values that are not finite, SpaceError for a disk that is too small, BusyError where
    another process trains into the folder.
    """
    advance = called(progress)
    folder = check_folder(out, "-o")
    documents = open_documents(text, dataset, what=_WHAT)
    compute_device = chosen_device(device)
    language = load_language(model, device=chosen_name(device), dtype=dtype)
    numbers = resolve_layers(layers, language.n_layers) or tuple(range(language.n_layers))
    recipe = SaeRecipe(parse_width(width, language.hidden), k, steps, batch_size, seed=seed)
    identity = _identity(language, documents, recipe, (max_tokens, context, outlier, dtype))
    training = _LayerTraining(folder, language, recipe, identity, compute_device)
    # Layers that are done are not trained again, and need no states.
    todo = tuple(layer for layer in numbers if training.finished(layer) is None)
    advance(0, "", max_tokens * bool(todo) + len(todo) * steps * batch_size)
    if todo:
        work = folder / _WORK
        work.mkdir(parents=True, exist_ok=True)
        # One process at a time: another would write into the same files.
        with claim(work, work / "training.claim", f"{_WHAT}: {folder}"):
            settings = StreamSettings(identity, todo, max_tokens, context, outlier)
            streams = collect(language, documents, settings, work, advance)
            for layer in todo:
                training.train(layer, streams, advance)
        shutil.rmtree(work, ignore_errors=True)
    return tuple(row for layer in numbers if (row := training.finished(layer)) is not None)


def parse_width(width: int | str, hidden: int) -> int:
    """Return a number of features, given as such or as "8x" the stream's. Raises UsageError."""
    text = str(width)
    number = number_in(r"^(\d{1,7})x?$", text)
    if not number:
        raise UsageError(f"width: expected a number of features, or 8x; found {text[:40]!r}")
    return int(number) * (hidden if text.endswith("x") else 1)


def _identity(
    language: Language, documents: Documents, recipe: SaeRecipe, options: Sequence[Any]
) -> str:
    """Return a digest of all that the SAE of a layer depends on."""
    facts = (_VERSION, language.revision, documents.digest, asdict(recipe), *options)
    return digest_texts([str(fact) for fact in facts])


@dataclass(frozen=True)
class _LayerTraining:
    """What the trainings of all layers share."""

    folder: Path
    language: Language
    recipe: SaeRecipe
    identity: str
    device: torch.device

    def path(self, layer: int) -> Path:
        """Return the folder of a layer's SAE."""
        return self.folder / f"layer_{layer}"

    def finished(self, layer: int) -> TrainedSae | None:
        """Return what a layer's folder holds; None where there is none yet.

        Raises UsageError where it is of another training.
        """
        folder = self.path(layer)
        if not folder.exists() or not any(folder.iterdir()):
            return None
        # Known by the identity of its training; any other SAE must not be overwritten.
        metadata = read_json(folder / "cfg.json").get("metadata")
        facts = metadata.get("training") if isinstance(metadata, dict) else None
        if not isinstance(facts, dict) or facts.get("identity") != self.identity:
            raise UsageError(
                f"-o: {folder} holds an SAE of another model, text or settings; name another "
                "folder, or remove it"
            )
        try:
            return schema.read(TrainedSae, {**facts, "path": str(folder)}, str(folder))
        except CorruptError as error:
            raise UsageError(f"-o: {error}; remove the folder") from None

    def train(self, layer: int, streams: StreamFiles, advance: Progress) -> None:
        """Train the SAE of a layer and write it."""
        started = time.monotonic()
        autoencoder = train_sae(
            streams.vectors(layer, "train"),
            self.recipe,
            Origin(FORMAT, str(self.path(layer)), layer, model=self.language.name),
            checkpoint=self.folder / _WORK / f"layer_{layer}.{self.identity}.pt",
            report=lambda step, loss: advance(
                self.recipe.batch, f"layer {layer}, step {step}, loss {loss:.3g}"
            ),
            device=self.device,
        )
        # Measured on text that was held out, on the SAE as it is written.
        fit = measure_fit(autoencoder, streams.vectors(layer, "held-out"))
        trained = self._trained(layer, streams, fit, time.monotonic() - started)
        facts = {**trained.row(), "identity": self.identity}
        del facts["path"]
        # The folder appears when it is whole, so that a layer is done or not.
        with output_folder(self.path(layer), "-o") as folder:
            save_sae(
                autoencoder,
                folder,
                frequencies=fit.frequencies,
                metadata={"l0": fit.l0, "training": facts},
            )

    def _trained(self, layer: int, streams: StreamFiles, fit: SaeFit, seconds: float) -> TrainedSae:
        return TrainedSae(
            layer=layer,
            path=str(self.path(layer)),
            m=self.recipe.width,
            k=self.recipe.k,
            n_tokens=streams.tally.tokens["train"],
            n_held_out=streams.tally.tokens["held-out"],
            fvu=fit.fvu,
            l0=fit.l0,
            alive=float((fit.frequencies > 0).float().mean()),
            seconds=seconds,
        )

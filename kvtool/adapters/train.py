"""`kvtool.adapter_train`: a linear layer between two models that stay as they are, trained on the
captions of a data set.

Two steps, each of which goes on where it was killed: the tower's features are stored; then the
layer is trained. What is unfinished lies in a folder of its own.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from kvtool import schema
from kvtool.adapters.folder import begin, finish, joined, load_adapter, put
from kvtool.adapters.lesson import Lesson, make_lesson
from kvtool.adapters.pictures import common_grid
from kvtool.adapters.sources import captioned, open_source
from kvtool.adapters.starts import Layer
from kvtool.adapters.training import AdapterRecipe, train_layer
from kvtool.bounds import checked
from kvtool.digests import digest_texts
from kvtool.display import Displayed, Facts
from kvtool.errors import CorruptError, UsageError
from kvtool.models.adapters import AdapterSettings, read_settings
from kvtool.models.device import one_device
from kvtool.models.files import CONFIG
from kvtool.outputs import check_folder
from kvtool.progress import Progress, called
from kvtool.store.locks import claim
from kvtool.store.select import Target
from kvtool.types import Precision

Start = Literal["random", "ridge"]

QUESTION = "Describe the image."
MARKER = "<image>\n"
"""What LLaVA's files write where the image was, which Venhoff et al. leave in the user's turn."""
_WHAT = "adapter train"
_WORK = ".training"
_VERSION = 1
"""Of what is trained: it is part of what an unfinished or finished training is known by."""


@dataclass(frozen=True, repr=False)
class TrainedAdapter(Displayed):
    """An adapter that was trained, and how it does on pictures that were held out.

    Attributes:
        path: Its folder, which `adapter:PATH` names as a model.
        language: The language model.
        vision: The tower.
        layer: The tower's layer that it reads, 0-based.
        pool: Patches are averaged over squares of so many a side.
        start: How it started: random or ridge.
        steps: Batches that it was trained on.
        batch_size: Captions of a batch.
        n_images: Pictures for training.
        n_held_out: Pictures held out; the losses are of a caption of each.
        loss_start: The mean cross-entropy of a token before training.
        loss: The same after it.
        loss_other: The same where each caption stands behind another picture.
        right: The share of tokens that the model finds the most probable.
        seconds: How long the call that ended the training took.
        skipped: A line for each picture that was left out.
    """

    path: str
    language: str
    vision: str
    layer: int
    pool: int
    start: str
    steps: int
    batch_size: int
    n_images: int
    n_held_out: int
    loss_start: float
    loss: float
    loss_other: float
    right: float
    seconds: float
    skipped: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the values by name, as the command prints them."""
        row = asdict(self)
        del row["skipped"]
        return row

    def _title(self) -> str:
        return f"Adapter {self.path}"

    def _facts(self) -> Facts:
        return {name: value for name, value in self.row().items() if name != "path"}


@checked
def adapter_train(
    out: str | PathLike[str],
    *,
    lm: str,
    vision: Target,
    dataset: Any = None,
    run: str | None = None,
    layer: int | None = None,
    pool: int = 1,
    start: Start = "random",
    question: str = QUESTION,
    keep_marker: bool = False,
    epochs: int = 1,
    steps: int | None = None,
    batch_size: int = 8,
    learning_rate: float = 2e-3,
    limit: int | None = None,
    seed: int = 0,
    dtype: Precision = "bfloat16",
    device: str = "auto",
    progress: Progress | bool | None = None,
) -> TrainedAdapter:
    """Train a linear layer through which a language model reads the patches of a vision tower.

    Both models stay as they are. The loss is the cross-entropy of captions behind their pictures,
    in the prompt that the adapter's model has later. A tenth of the pictures, 500 at most, is held
    out. The same call goes on where it was interrupted.

    Args:
        out: The folder of the adapter; OUT/.training holds what an interrupted call goes on from.
        lm: The language model: hub id or folder of a causal one, smollm2, or a multimodal model, of
            which the decoder is taken.
        vision: The tower: hub id, folder or demo-tower; or a store that holds its features (kind
            vision), which then are not computed again.
        dataset: Where the captions are: NAME[:PATH][@SPLIT], or an object. By default, with a
            store, the data set of its run.
        run: The run of the store, where it holds several.
        layer: The tower's layer whose patches are read, 0-based; by default its last, or the only
            one that the run holds.
        pool: Patches are averaged over squares of so many a side.
        start: "random", or "ridge": the layer that comes closest to the embeddings of the words for
            what patches show, where the data set has masks of concepts.
        question: What the user asks; a caption is the answer.
        keep_marker: Put "<image>" before the question, as Venhoff et al. do.
        epochs: How often every caption is read.
        steps: How many batches are read, in place of epochs.
        batch_size: Captions of a batch.
        learning_rate: Of AdamW, after a warm-up of 3 %; it falls to 2 % along a cosine.
        limit: Only the first pictures that have captions.
        seed: The random seed of the start, of the order of captions and of what is held out.
        dtype: The precision in which both models run.
        device: Where to compute: auto, cpu, cuda or cuda:N.
        progress: Called with the pictures, then the steps, that are done; True shows a bar.

    Raises UsageError for what does not go together, DatasetError and ModelError for what cannot be
    read, BusyError where another process trains into the folder.
    """
    started = time.monotonic()
    folder = check_folder(out, "-o")
    if start not in get_args(Start):
        raise UsageError(f"start: expected random or ridge, found {start!r}; choose one of these")
    source = open_source(vision, run, dataset, layer)
    captions = captioned(source, limit)
    marker = MARKER if keep_marker else ""
    # All that the layer depends on, by which a finished or interrupted call is known.
    settings = AdapterSettings(joined(lm), source.tower, source.layer, pool, marker)
    recipe = AdapterRecipe(steps or 0, batch_size, learning_rate, seed)
    identity = digest_texts(
        str(fact)
        for fact in (
            *(_VERSION, settings.language.revision, source.revision, source.layer, captions.digest),
            *(pool, marker, question, start, epochs, asdict(recipe), dtype),
        )
    )
    if (finished := _finished(folder, identity)) is not None:
        return finished
    # What an interrupted training goes on from is of the same models, captions and settings.
    work = folder / _WORK / identity[:16]
    work.mkdir(parents=True, exist_ok=True)
    with claim(work.parent, work.parent / "training.claim", f"{_WHAT}: {folder}"):
        advance = called(progress)
        # Features first, from the tower alone; those that are stored are only opened.
        computing = str(one_device(device))
        stored = source.features(work, captions.n_listed, dtype, computing, advance)
        common_grid(stored, pool)
        # With a layer that gives nothing yet the two models are one that can be loaded.
        begin(work / "adapter", settings)
        # On a CPU the gradient of the fused attention is several times slower.
        attention = "eager" if computing == "cpu" else "sdpa"
        model = load_adapter(work / "adapter", device=computing, dtype=dtype, attention=attention)
        lesson = make_lesson(model, captions, stored, question, seed, work / "features")
        recipe = recipe if steps else _of_epochs(recipe, epochs, len(lesson.training))
        # The start, and the layer after it; both are examined on the captions held out.
        first = lesson.ridge_start(source.dataset) if start == "ridge" else lesson.random_start()
        layer_after = _trained(lesson, first, recipe, work / "checkpoint.pt", advance)
        facts = _facts(lesson, recipe, first, layer_after)
        facts |= {"start": start, "seconds": time.monotonic() - started, "identity": identity}
        finish(folder, settings, layer_after, facts)
    shutil.rmtree(work.parent, ignore_errors=True)
    return _read_training(folder)


def _of_epochs(recipe: AdapterRecipe, epochs: int, n_examples: int) -> AdapterRecipe:
    """Return a recipe of whole epochs, in each of which whole batches are read."""
    return replace(recipe, steps=epochs * max(1, n_examples // recipe.batch))


def _trained(
    lesson: Lesson, first: Layer, recipe: AdapterRecipe, checkpoint: Path, advance: Progress
) -> Layer:
    """Train a layer from its start on."""
    put(lesson.model, first)
    advance(0, "", recipe.steps)
    return train_layer(
        lesson.model,
        lesson.pictures.tokens,
        lesson.training,
        recipe,
        checkpoint=checkpoint,
        report=lambda step, loss: advance(1, f"step {step}, loss {loss:.3g}"),
    )


def _facts(lesson: Lesson, recipe: AdapterRecipe, first: Layer, last: Layer) -> dict[str, Any]:
    """Return what a folder says of a training, beside its settings; see TrainedAdapter."""
    scores = lesson.examine(last)
    return {
        "steps": recipe.steps,
        "batch_size": recipe.batch,
        "n_images": len(lesson.pictures.ids) - lesson.n_held_out,
        "n_held_out": lesson.n_held_out,
        "loss_start": lesson.examine(first).loss,
        "loss": scores.loss,
        "loss_other": lesson.examine(last, swapped=True).loss,
        "right": scores.right,
        "skipped": list(lesson.pictures.skipped),
    }


def _finished(folder: Path, identity: str) -> TrainedAdapter | None:
    """Return what a folder holds; None where there is none yet.

    Raises UsageError where it is of another training.
    """
    if not (folder / CONFIG).exists():
        return None
    if read_settings(folder).training.get("identity") != identity:
        raise UsageError(
            f"-o: {folder} holds a model, or an adapter of other models, captions or settings; "
            "name another folder, or remove it"
        )
    return _read_training(folder)


def _read_training(folder: Path) -> TrainedAdapter:
    """Return what a folder says of its training. Raises UsageError where that is damaged."""
    settings = read_settings(folder)
    # What the settings say themselves is not stored twice.
    facts = {
        **settings.training,
        "path": str(folder),
        "language": settings.language.name,
        "vision": settings.vision.name,
        "layer": settings.layer,
        "pool": settings.pool,
    }
    del facts["identity"]
    try:
        return schema.read(TrainedAdapter, facts, str(folder))
    except CorruptError as error:
        raise UsageError(f"-o: {error}; remove the folder") from None
